"""Run one attempt: claim it, call the adapter with nothing held in the database, record what came of it.

claim --> adapter.submit --> Completed --> Succeed (no files) or Done (files: fetched by the media worker)
                         --> Accepted  --> Accept (polled from here on)
                         --> ProviderError --> AttemptFailed (policy decides)
                         --> Aborted   --> Canceled / HandBack / Unknown / nothing, by reason and stage
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from admin_integrations import vault
from genpulse.config import config
from providers import faults, registry
from providers.base import (
    Aborted,
    Accepted,
    Call,
    Completed,
    Emit,
    ExecutorInfo,
    Provider,
    ProviderError,
    Secret,
)
from providers.http import Session
from tasks import failures, live, publish, results, watching
from tasks.desk import Desk, Holding, desk
from tasks.inputs import inputs_of
from tasks.moves import (
    Accept,
    Canceled,
    Done,
    GiveUp,
    HandBack,
    Move,
    Sending,
    Start,
    Succeed,
    Unknown,
    error,
)
from tasks.policy import Fault
from tasks.recorder import Recorded
from tasks.work import Work
from wallet import pricing

log = structlog.get_logger(__name__)
RECORD_PATIENCE = 60.0


def run(task_id: UUID, attempt: int) -> str:
    """One submit job. Answers a word for the log: refused, done, accepted, failed, aborted."""
    at = desk()
    with at.claiming() as willing:
        if not willing:
            return "refused"  # it is published again when nobody claims it
        claim = at.recorder.record(Start(task_id=task_id, attempt=attempt, worker=at.name))
        work = claim.result(RECORD_PATIENCE).work
        if work is None:
            log.debug("claim.refused", task_id=str(task_id), attempt=attempt)
            return "refused"
        structlog.contextvars.bind_contextvars(task_id=str(task_id), attempt=attempt)
        with at.holding(work) as held:
            outcome, moved = perform(at, work, held)
            moved.result(RECORD_PATIENCE)
    return outcome


def perform(at: Desk, work: Work, held: Holding) -> tuple[str, Any]:
    """Call the adapter and hand its outcome to the recorder; the word and the future."""
    provider = registry.get(work.provider)
    try:
        with calling(work, held, at) as call:
            watch = watching.open_watch(at, work, partial(executor_info, work))
            answer = provider.submit(call)
    except Aborted as abort:
        return "aborted", at.recorder.record(aborted(work, held, provider, abort))
    except ProviderError as problem:
        return "failed", at.recorder.record(failed(work, held, problem))
    except Exception:
        log.exception("adapter.failed", provider=work.provider)
        return "failed", at.recorder.record(failed(work, held, broken(held, provider)))
    if isinstance(answer, Accepted):
        accept = Accept(
            task_id=work.task_id,
            attempt=work.attempt,
            external_id=answer.external_id,
            poll_after=answer.poll_after if answer.poll_after is not None else config.poll_min,
        )
        moved = at.recorder.record(failures.well(work, lambda: accept))
        if watch is not None:
            watch.follow(work, answer.external_id, moved)
        return "accepted", moved
    return "done", complete(at, work, answer)


def broken(held: Holding, provider: Provider) -> ProviderError:
    """An adapter raised what it must not: after a paid request nobody knows what happened."""
    kind: Any = (
        "unknown_outcome"
        if held.sent and provider.retry_submit not in failures.REPEATABLE
        else "transient"
    )
    return ProviderError(kind, "The provider's answer could not be handled.", "bad_response")


def complete(at: Desk, work: Work, answer: Completed) -> Any:
    """Record a finished call: at once when there is nothing to store, else through the media worker."""
    usage = results.usage_of(answer)
    refusal = results.empty(work, answer)
    if refusal is not None:
        return at.recorder.record(failures.move_for(work, refusal))
    if not answer.outputs:
        output = results.output_of(answer, [])
        charge = pricing.charge(work.tariff, usage, work.quoted)
        succeed = partial(Succeed, **work.ids, output=output, usage=usage, charge=charge)
        return at.recorder.record(
            failures.well(
                work, lambda: succeed(vendor_cost=results.vendor_cost(work, answer, usage))
            )
        )
    kept = results.keep(work, answer, usage)
    done = partial(Done, **work.ids, result=kept)
    future = at.recorder.record(
        failures.well(work, lambda: done(vendor_cost=results.vendor_cost(work, answer, usage)))
    )
    future.add_done_callback(lambda finished: _ring_fetch(finished, work))
    return future


def _ring_fetch(finished: Any, work: Work) -> None:
    """Called in the recorder's thread; a lost ring is made good by the sweep of due attempts."""
    if finished.exception() is None and finished.result().ok:
        publish.publish([publish.fetch(work.task_id, work.attempt)])


def failed(work: Work, held: Holding, problem: ProviderError) -> Move | Callable[[], Move]:
    if problem.raw:
        log.info("vendor.error", provider=work.provider, kind=problem.kind, code=problem.code)
    if work.seconds_left is not None and timed_out(held, work):
        return GiveUp(
            task_id=work.task_id,
            attempt=work.attempt,
            shown=run_timeout(work),
            possible_cost=held.sent,
        )
    return failures.move_for(
        work, failures.fault_of(problem, work, delta_sent=held.delta_sent, sent=held.sent)
    )


def timed_out(held: Holding, work: Work) -> bool:
    return held.session is not None and time.monotonic() >= held.session.deadline


def run_timeout(work: Work) -> dict[str, Any]:
    return error(
        "transient", "run_timeout", f"It took longer than its timeout of {work.timeout} s."
    )


def aborted(
    work: Work, held: Holding, provider: Provider, abort: Aborted
) -> Move | Callable[[], Move]:
    """The call was cut from outside; what may follow depends on whether a paid request may have left."""
    if abort.reason == "canceled":
        return Canceled(**work.ids, possible_cost=held.sent)
    if held.sent and provider.retry_submit not in failures.REPEATABLE:
        message = "The worker stopped while the request was on its way."
        return Unknown(**work.ids, fault=Fault(kind="unknown_outcome", message=message))
    return HandBack(**work.ids)


@contextmanager
def calling(work: Work, held: Holding, at: Desk, *, seconds: float | None = None) -> Iterator[Call]:
    """The `Call` of an attempt, with its guarded session; events are flushed when the block ends.

    `seconds`: how long it may take; without it what the task's timeout has left.
    """
    if seconds is None:
        seconds = work.timeout if work.seconds_left is None else work.seconds_left
    deadline = time.monotonic() + seconds
    provider = registry.get(work.provider)
    emit = live.emitter(work, held)
    session = Session(work.base_url, deadline=deadline, sending=lambda: sending(work, held, at))
    held.session = session
    if held.reason:  # it was taken back between the claim and here
        raise Aborted(held.reason)
    try:
        info = session.bind(provider, executor_info(work, session))
        yield call_of(
            work, held, info, emit, client_id=watching.client_id(at.name, work.executor_id)
        )
    finally:
        emit.close()


def executor_info(work: Work, session: Session) -> ExecutorInfo:
    try:
        secret = work.secret()
    except vault.VaultError:
        log.warning("credential.unusable", executor=work.executor)
        raise faults.standard("bad_credentials") from None
    return ExecutorInfo(
        http=session,
        name=work.executor,
        base_url=work.base_url,
        region=work.region,
        config=options(work),
        credential=Secret(secret) if secret else None,
    )


def options(work: Work) -> dict[str, Any]:
    """The executor's options, over what the environment says for all of its family."""
    seconds = {
        "gemini": config.gemini_timeout,
        "qwen": config.qwen_timeout,
        "deepseek": config.deepseek_timeout,
    }.get(work.family)
    common: dict[str, Any] = {"refusal_phrases": config.refusal_phrases}
    return common | ({"chat_timeout": seconds} if seconds else {}) | dict(work.config)


def call_of(
    work: Work, held: Holding, executor: ExecutorInfo, emit: Emit, *, client_id: str
) -> Call:
    model, params = registry.params_for(
        work.provider, work.model, work.input, sent=bool(work.external_id)
    )
    return Call(
        task_id=str(work.task_id),
        attempt=work.attempt,
        model=model,
        task_type=registry.task_type_of(work.task_type),
        params=params,
        inputs=inputs_of(work),
        executor=executor,
        submit_key=str(work.submit_key),
        deadline=executor.http.deadline,
        emit=emit,
        cancelled=lambda: held.reason is not None,
        sending=executor.http.sending,
        external_id=work.external_id or None,
        stream=work.stream,
        client_id=client_id,
    )


def sending(work: Work, held: Holding, at: Desk) -> None:
    """Committed before the first byte of a paid request leaves. Raises Aborted when the attempt is not ours any more."""
    if held.sent:
        return
    done: Recorded = at.recorder.record(Sending(task_id=work.task_id, attempt=work.attempt)).result(
        RECORD_PATIENCE
    )
    if not done.ok:
        raise Aborted("fenced")
    if done.applied.task and done.applied.task.cancel_requested:
        raise Aborted("canceled")
    held.sent = True
