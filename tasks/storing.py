"""Store a vendor's answer: copy every output into our own storage, make assets, settle. Media worker only.

The answer is committed before this begins, so nothing here is ever a reason to generate again. Storage that is away
is waited for; a vendor link that died is asked for anew; only when neither can be had the result is lost.
"""

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, cast
from uuid import UUID

import structlog
from django.db import connection, transaction

from genpulse import sql
from genpulse.config import config
from genpulse.errors import MediaRejected, UrlNotAllowed
from media import services as media
from media.services import Asset
from providers import registry
from providers.base import Completed, Provider, ProviderError
from providers.http import Session, origin_of
from tasks import live, results, work
from tasks.desk import Holding
from tasks.lifecycle import apply
from tasks.moves import AttemptFailed, EarlyOutput, GiveUp, StorageDown, Succeed, error
from tasks.policy import Fault
from tasks.runner import call_of, executor_info
from tasks.work import Work
from wallet import pricing

log = structlog.get_logger(__name__)
LARGEST = 2 << 30
SECONDS = 300.0
RETRY_IN = 5.0
EARLY_KEPT = timedelta(days=1)
TEMPORARY = frozenset({"transient", "overloaded", "rate_limited"})

CLAIM = """
UPDATE tasks_attempt SET lease_until = now() + make_interval(secs => %s)
WHERE task_id = %s AND number = %s AND stage = 'done' AND (lease_until IS NULL OR lease_until < now())
RETURNING 1
"""
RENEW = """
UPDATE tasks_attempt SET lease_until = now() + make_interval(secs => %s)
WHERE task_id = %s AND number = %s AND stage = 'done'
"""


class ResultLost(Exception):
    """The vendor's link is dead and no fresh one can be had."""


def run(task_id: UUID, attempt: int) -> str:
    """One fetch job; a second copy finds nothing to do while the first one works."""
    if not sql.fetch(CLAIM, [config.lease_seconds, task_id, attempt]):
        return "refused"
    found = work.load([(task_id, attempt)]).get((task_id, attempt))
    if found is None or found.replaced or found.result is None:
        return "refused"
    with leased(found):
        return store(found)


def store(job: Work) -> str:
    result = cast("dict[str, Any]", job.result)
    try:
        assets = prepare_fresh(job, result["outputs"])
    except MediaRejected as rejected:
        return _fail(job, "result_rejected", rejected.detail)
    except ResultLost:
        return _give_up(job)
    except OSError as problem:
        log.warning("storage.unavailable", error=type(problem).__name__)
        apply([StorageDown(**job.ids, retry_in=RETRY_IN)])
        return "storage unavailable"
    return _succeed(job, assets)


@contextmanager
def leased(job: Work) -> Iterator[None]:
    """Keep other copies away while this one works; when it dies, they may go on after the lease."""
    stop = threading.Event()

    def renew() -> None:
        while not stop.wait(config.heartbeat_seconds):
            sql.execute(RENEW, [config.lease_seconds, job.task_id, job.attempt])
        connection.close()

    thread = threading.Thread(target=renew, name="storing", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def prepare_fresh(job: Work, outputs: Sequence[Mapping[str, Any]]) -> list[Asset]:
    """The assets; where a vendor's link has died, by the links it gives now. Raises ResultLost."""
    try:
        return prepare_all(job, outputs)
    except ResultLost:
        again = asked_again(job)
        if again is None:
            raise
        return prepare_all(job, again)


def asked_again(job: Work) -> Sequence[Mapping[str, Any]] | None:
    """The outputs of an accepted job as the vendor lists them now; None when it cannot say."""
    if not job.external_id:
        return None
    session = Session(job.base_url, deadline=time.monotonic() + config.poll_max)
    provider = registry.get(job.provider)
    info = session.bind(provider, executor_info(job, session))
    held = Holding(job, sent=True)
    call = call_of(job, held, info, live.emitter(job, held), client_id="")
    try:
        for update in provider.poll([call]):
            if isinstance(update.state, Completed):
                usage = results.usage_of(update.state)
                return cast(
                    "list[dict[str, Any]]", results.keep(job, update.state, usage)["outputs"]
                )
    except ProviderError as problem:
        if problem.kind in TEMPORARY:
            raise OSError("the provider cannot be asked now") from problem
    return None


def prepare_all(job: Work, outputs: Sequence[Mapping[str, Any]]) -> list[Asset]:
    """The assets in order. All but the last are told as soon as they are stored; a second look takes them as they are."""
    early = early_outputs(job) if len(outputs) > 1 else {}
    prepared: list[Asset] = []
    try:
        for index, output in enumerate(outputs):
            prepared.append(early.get(index) or prepare_one(job, index, output))
            if index + 1 < len(outputs) and index not in early:
                tell(job, prepared[-1])
    except BaseException:
        media.discard(asset for asset in prepared if not is_kept(asset))
        raise
    return prepared


def prepare_one(job: Work, index: int, output: Mapping[str, Any]) -> Asset:
    with opened(job, output) as file:
        asset = media.prepare(
            job.account_id,
            file,
            origin="result",
            kind=output["kind"],
            content_type=output["content_type"],
            filename=output["filename"],
            task_id=job.task_id,
            batch_id=job.batch_id,
            index=index,
            provenance=provenance(job, output),
        )
        if asset.kind == "video":
            # Whoever sees the end of a film may ask for its poster at once. Pictures are too many for that.
            media.add_thumbnail(asset, file)
        return asset


def tell(job: Work, asset: Asset) -> None:
    """`task.output`: this one can be looked at while the others are still being copied."""
    asset.expires_at = datetime.now(UTC) + EARLY_KEPT  # its end gives it another date
    with transaction.atomic():
        [told] = apply([EarlyOutput(**job.ids, asset=media.persistable(asset))])
        if told.ok:
            media.insert_many([asset])


def early_outputs(job: Work) -> dict[int, Asset]:
    """What this attempt has told before its end, by index."""
    told = Asset.objects.filter(
        task_id=job.task_id, provenance__attempt=job.attempt, deleted_at__isnull=True
    )
    return {asset.index: asset for asset in told if asset.index is not None}


def is_kept(asset: Asset) -> bool:
    """Does it have a row?"""
    return not asset._state.adding


def take_back(job: Work) -> None:
    """This attempt has no result after all."""
    media.purge(early_outputs(job).values())


@contextmanager
def opened(job: Work, output: Mapping[str, Any]) -> Any:
    """The bytes of one output: those the adapter handed over, or those behind the vendor's link."""
    if output["key"]:
        try:
            raw = media.open_raw(output["key"])
        except FileNotFoundError as gone:
            raise ResultLost from gone
        with raw as file:
            yield file
        return
    with tempfile.TemporaryFile() as file:
        download(job, output["url"], cast("BinaryIO", file))
        file.seek(0)
        yield file


def download(job: Work, url: str, file: BinaryIO) -> None:
    """The executor's own origin is read with its credential, every other address through the guard."""
    session = Session(job.base_url, deadline=float("inf"))
    provider: Provider = registry.get(job.provider)
    if job.base_url and origin_of(job.base_url) == origin_of(url):
        session.bind(provider, executor_info(job, session))
        _own(session, url, file)
        return
    try:
        media.fetch(url, purpose="result", sink=file, max_bytes=LARGEST, deadline=SECONDS)
    except media.FetchError as problem:
        if problem.code == "rejected":
            raise MediaRejected(str(problem)) from problem
        if problem.code == "gone":
            raise ResultLost from problem
        raise OSError("the vendor's link cannot be read now") from problem
    except UrlNotAllowed as problem:
        raise ResultLost from problem


def _own(session: Session, url: str, file: BinaryIO) -> None:
    written = 0
    try:
        with session.stream("GET", url, timeout=SECONDS) as answer:
            for chunk in answer.chunks():
                written += len(chunk)
                if written > LARGEST:
                    raise MediaRejected("The result is larger than 2 GiB.")
                file.write(chunk)
    except ProviderError as problem:
        if problem.kind in TEMPORARY:
            raise OSError("the executor cannot be read now") from problem
        raise ResultLost from problem


def provenance(job: Work, output: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "model": job.model,
        "provider": job.provider,
        "executor": job.executor,
        "task_type": job.task_type,
        "prompt": job.input.get("prompt"),
        "seed": output["meta"].get("seed", job.input.get("seed")),
        "workflow": (job.options.get("workflow") or {}).get("name"),
        "sandbox": job.provider == "sandbox",
        "external_id": job.external_id or None,
        "attempt": job.attempt,
    }


def _succeed(job: Work, assets: list[Asset]) -> str:
    result = cast("dict[str, Any]", job.result)
    usage = result["usage"]
    with transaction.atomic():
        kept = [media.persistable(asset) for asset in assets]
        [done] = apply(
            [
                Succeed(
                    task_id=job.task_id,
                    attempt=job.attempt,
                    output=results.output_of(results.answer_of(result), kept),
                    usage=usage,
                    charge=pricing.charge(job.tariff, usage, job.quoted),
                )
            ]
        )
        if done.ok and done.task and done.task.status == "succeeded":
            keep(assets, done.task.purge_at)
            stored = True
        else:
            stored = False
    if not stored:
        if not done.task or done.task.status != "succeeded":  # else a twin was faster
            take_back(job)
        media.discard(asset for asset in assets if not is_kept(asset))
    for output in result["outputs"]:
        if output["key"]:
            media.delete_raw(output["key"])
    return "stored" if stored else "refused"


def keep(assets: Sequence[Asset], until: datetime | None) -> None:
    """The rows of a result, which go with the task's bodies."""
    for asset in assets:
        asset.expires_at = until
    early = [asset.id for asset in assets if is_kept(asset)]
    media.insert_many([asset for asset in assets if not is_kept(asset)])
    if early:
        Asset.objects.filter(id__in=early).update(expires_at=until)


def _fail(job: Work, code: str, message: str) -> str:
    fault = Fault(
        kind="lost", code=code, message=message, provider=job.provider, possible_cost=True
    )
    [done] = apply([AttemptFailed(task_id=job.task_id, attempt=job.attempt, fault=fault)])
    if done.ok:
        take_back(job)
    return code


def _give_up(job: Work) -> str:
    shown = error("lost", "result_lost", "The vendor's result could not be read any more.")
    [done] = apply(
        [GiveUp(task_id=job.task_id, attempt=job.attempt, shown=shown, possible_cost=True)]
    )
    if done.ok:
        take_back(job)
    return "result_lost"
