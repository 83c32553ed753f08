"""bench: sandbox load through the whole machine, and how fast it went; or a program of `benchmarks`."""

import http.client
import json as jsonlib
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit
from uuid import UUID

import typer

from genpulse.cli.terminal import DEFAULT_DATA, AsJson, Data, django, fail, out, print_json, running

commands = typer.Typer()
NAME = "bench"  # of the user and of the executor
SLOTS = 512
PATIENCE = 60.0  # seconds, and as long again for every 2000 tasks
BODY = {
    "model": "sandbox-text",
    "input": {"prompt": "bench", "sandbox": {"latency": 0}},
    "executor": {"only": [NAME]},
    "tags": [NAME],
}
ENDS = """
SELECT count(*) FILTER (WHERE status = 'succeeded'), count(*),
  coalesce(extract(epoch FROM max(finished_at) - min(created_at)), 0)::float8,
  coalesce(percentile_cont(0.95) WITHIN GROUP (ORDER BY extract(epoch FROM started_at - created_at)), 0)::float8
FROM tasks_task WHERE id = ANY(%s) AND finished_at IS NOT NULL
"""


@commands.command()
def bench(
    name: Annotated[
        str | None, typer.Argument(help="A program of benchmarks/, on servers of its own.")
    ] = None,
    data: Data = DEFAULT_DATA,
    *,
    tasks: Annotated[int, typer.Option(min=1, max=1_000_000)] = 500,
    concurrency: Annotated[int, typer.Option(min=1, max=1000, help="Clients at once.")] = 50,
    json: AsJson = False,
) -> None:
    """Submit sandbox tasks as fast as they are taken, and wait for all of them."""
    if name is not None:
        run_program(name)
    instance = running(data)
    with django(data), prepared(tasks) as key:
        report = play(instance.base_url, key, tasks, min(concurrency, tasks))
    if json:
        print_json(report)
    else:
        for label, value in report.items():
            out.print(f"{label:14} {value}")
    if report["succeeded"] < tasks:
        raise typer.Exit(1)


def run_program(name: str) -> NoReturn:
    """They come with the source, not with the package."""
    if find_spec("benchmarks") is None:
        fail("the programs of benchmarks/ are in the source tree; run this there")
    raise typer.Exit(subprocess.call([sys.executable, "-m", "benchmarks", name]))  # noqa: S603


@contextmanager
def prepared(tasks: int) -> Iterator[str]:
    """An executor, credits and a service key that only this run uses; the key."""
    from admin_integrations.models import Executor
    from genpulse.auth import services
    from genpulse.auth.models import Account
    from genpulse.money import MICRO
    from wallet import services as wallet

    user = services.get_or_create_user(NAME)
    Account.objects.filter(pk=user.account_id).update(max_waiting=0)
    wallet.deposit(user.account_id, tasks * MICRO, reason="genpulse bench")
    wanted = {"type": "sandbox", "max_concurrency": SLOTS, "status": "active"}
    executor, _ = Executor.objects.update_or_create(name=NAME, defaults=wanted)
    row, text = services.create_key(user, name="genpulse bench", scopes=["tasks", "act_as"])
    try:
        yield text
    finally:
        services.revoke_key(row)
        Executor.objects.filter(pk=executor.pk).update(status="inactive")


class Callers:
    """Clients that each keep their connection."""

    def __init__(self, base_url: str, key: str) -> None:
        self.address = urlsplit(base_url).netloc
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self.body = jsonlib.dumps(BODY)
        self._mine = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        for connection in self._open:
            connection.close()

    def post(self, path: str) -> tuple[int, dict[str, Any], float]:
        """Status, answer, and seconds it took. Raises OSError."""
        began = time.perf_counter()
        connection: http.client.HTTPConnection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = http.client.HTTPConnection(self.address, timeout=60)
            self._mine.connection = connection
            self._open.append(connection)
        try:
            connection.request("POST", path, self.body, self.headers)
            answer = connection.getresponse()
            status, text = answer.status, answer.read()
        except http.client.HTTPException as error:
            connection.close()
            raise ConnectionError(str(error)) from error
        return status, jsonlib.loads(text), time.perf_counter() - began


def play(base_url: str, key: str, tasks: int, concurrency: int) -> dict[str, Any]:
    """The report of one run."""
    with closing(Callers(base_url, key)) as callers:
        _await_executor(callers)
        with ThreadPoolExecutor(concurrency) as pool:
            answers = list(pool.map(lambda _: callers.post("/api/v1/tasks"), range(tasks)))
    ids = [UUID(answer["id"]) for status, answer, _ in answers if status == 201]
    took = sorted(seconds for _, _, seconds in answers)
    succeeded, ended, seconds, waited = _ends(ids)
    return {
        "submitted": len(ids),
        "succeeded": succeeded,
        "failed": tasks - succeeded,
        "seconds": round(seconds, 3),
        "per_second": round(ended / seconds, 1) if seconds else 0.0,
        **{f"submit_p{p}_ms": round(_percentile(took, p) * 1000, 2) for p in (50, 95, 99)},
        "wait_p95_ms": round(waited * 1000, 2),
    }


def _await_executor(callers: Callers) -> None:
    """Every process knows a new executor within half a second."""
    until = time.monotonic() + 10
    while True:
        status, answer, _ = callers.post("/api/v1/quote")
        if status == 200:
            return
        if status != 422 or time.monotonic() > until:
            fail(f"the service does not take the load: {answer.get('detail')}")
        time.sleep(0.1)


def _ends(ids: Sequence[UUID]) -> tuple[int, int, float, float]:
    """Succeeded, ended, seconds from the first submit to the last end, p95 of the wait; when all ended or it is too late."""
    from genpulse import sql

    until = time.monotonic() + PATIENCE * (1 + len(ids) // 2000)
    while True:
        succeeded, ended, seconds, waited = sql.fetch(ENDS, [list(ids)])[0]
        if ended == len(ids) or time.monotonic() > until:
            return succeeded, ended, seconds, waited
        time.sleep(0.1)


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]
