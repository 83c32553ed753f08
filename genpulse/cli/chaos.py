"""chaos: load as in bench while processes are killed, then proof that nothing was lost or done twice."""

import os
import random
import secrets
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import uuid4

import typer

from genpulse.cli import bench
from genpulse.cli.client import ApiError, Client
from genpulse.cli.instance import Instance
from genpulse.cli.terminal import (
    DEFAULT_DATA,
    FAILED,
    WRONG_USAGE,
    AsJson,
    Data,
    django,
    err,
    fail,
    out,
    print_json,
    running,
)

commands = typer.Typer()
VICTIMS = {
    "workers": "worker",
    "worker": "worker",
    "redis": "valkey",
    "orchestrator": "orchestrator",
    "web": "web",
    "media": "media",
    "postgres": "postgres",
}
CALLERS = 4
CREDITS_FOR = 1_000_000  # tasks
PATIENCE = 180.0  # seconds after the last fault until everything must have ended
MOST_OPEN = 400  # of our tasks; more would only wait
STATES = """
SELECT count(*), count(finished_at), count(*) - count(DISTINCT tags)
FROM tasks_task WHERE tags @> %s::varchar[] AND tags && %s::varchar[]
"""
ENDED_TWICE = """
SELECT count(*) FROM (
  SELECT e.task_id FROM events_event e JOIN tasks_task t ON t.id = e.task_id
  WHERE t.tags @> %s::varchar[] AND e.type IN ('task.succeeded', 'task.failed', 'task.canceled', 'task.expired')
  GROUP BY e.task_id HAVING count(*) > 1) AS twice
"""


@commands.command()
def chaos(
    data: Data = DEFAULT_DATA,
    *,
    seconds: Annotated[float, typer.Option(min=1, help="How long faults go on.")] = 30,
    kill: Annotated[
        str, typer.Option(help=f"Comma list of {', '.join(VICTIMS)}.")
    ] = "workers,redis,orchestrator",
    seed: Annotated[int | None, typer.Option(help="Of an earlier run.")] = None,
    json: AsJson = False,
) -> None:
    """Kill processes of the instance under load; exit 1 when a task was lost or done twice."""
    victims = _victims(kill)
    instance = running(data)
    with django(data), bench.prepared(CREDITS_FOR) as key:
        storm = Storm(instance, key, secrets.randbelow(1 << 30) if seed is None else seed)
        storm.rage(victims, seconds)
        report = storm.report()
    print_json(report) if json else _show(report)
    if report["lost"] or report["duplicated"] or report["breaches"]:
        raise typer.Exit(FAILED)


def _victims(text: str) -> list[str]:
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in wanted if name not in VICTIMS]
    if unknown or not wanted:
        fail(
            f"cannot kill {', '.join(unknown) or 'nothing'}; want {', '.join(VICTIMS)}", WRONG_USAGE
        )
    return [VICTIMS[name] for name in wanted]


@dataclass
class Storm:
    """One run: callers submit until faults are over; each task has a name of ours."""

    instance: Instance
    key: str
    seed: int
    accepted: set[str] = field(default_factory=set)
    kills: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.tag = f"chaos-{self.seed}"
        self.random = random.Random(self.seed)  # noqa: S311 - repeatable, guards nothing
        self.over = threading.Event()
        self.refusal = ""

    def rage(self, victims: list[str], seconds: float) -> None:
        err.print(f"seed {self.seed}, killing {', '.join(victims)} for {seconds:.0f} s")
        callers = [threading.Thread(target=self._call) for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            time.sleep(self.random.uniform(0.5, 2))
            self._kill(self.random.choice(victims))
        self.over.set()
        for caller in callers:
            caller.join()
        if not self.accepted:
            fail(f"the service does not take the load: {self.refusal}")

    def _kill(self, name: str) -> None:
        """kill -9; PostgreSQL is told to stop at once, as a crash of its own would."""
        pids = {one["name"]: one["pid"] for one in self.instance.supervisor.processes()}
        pid = pids.get(name)
        if pid:
            os.kill(pid, signal.SIGQUIT if name == "postgres" else signal.SIGKILL)
            self.kills[name] += 1

    def _call(self) -> None:
        client = Client(self.instance.base_url, self.key)
        while not self.over.is_set():
            self._submit(client, str(uuid4()))
            self.over.wait(0.02 + 0.5 * (len(self.accepted) % MOST_OPEN == 0))

    def _submit(self, client: Client, name: str) -> None:
        """With one idempotency key until it is accepted: what was cut half-way is no second task."""
        body = {
            **bench.BODY,
            "input": {"prompt": name, "sandbox": {"latency": 0.3}},
            "tags": [bench.NAME, self.tag, name],
            "idempotency_key": name,
        }
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            try:
                client.post("/api/v1/tasks", body, timeout=5)
            except (ApiError, OSError) as error:
                self.refusal = str(error)  # of a new executor too, until every process knows it
                time.sleep(0.2)
            else:
                self.accepted.add(name)
                return

    def report(self) -> dict[str, Any]:
        """Waits for the ends. Every invariant of ledger and tasks is looked at too."""
        from tasks import audit

        names = sorted(self.accepted)
        until = time.monotonic() + PATIENCE
        while True:
            known, terminal, doubles = _ask(STATES, [[self.tag], names])
            if terminal >= len(names) or time.monotonic() > until:
                break
            time.sleep(0.5)
        [twice] = _ask(ENDED_TWICE, [[self.tag]])
        return {
            "seed": self.seed,
            "killed": dict(self.kills),
            "submitted": len(names),
            "terminal": terminal,
            "lost": len(names) - min(terminal, known - doubles),
            "duplicated": doubles + twice,
            "breaches": [check.name for check in audit.breaches()],
        }


def _ask(query: str, parameters: list[Any]) -> tuple[int, ...]:
    """One row, also of a database that has just been killed. Raises what stays wrong for half a minute."""
    from django.db import InterfaceError, OperationalError, connection

    from genpulse import sql

    until = time.monotonic() + 30
    while True:
        try:
            return sql.fetch(query, parameters)[0]
        except (OperationalError, InterfaceError):
            connection.close()
            if time.monotonic() > until:
                raise
        time.sleep(0.2)


def _show(report: dict[str, Any]) -> None:
    for name, value in report.items():
        bad = name in {"lost", "duplicated", "breaches"} and value
        out.print(f"{name:11} {value or 0}", style="red" if bad else None, markup=False)
