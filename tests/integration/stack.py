"""The real thing for tests: orchestrator, I/O workers and media worker as processes, on the test database.

Timers are scaled down; `Stack.kill` is a kill -9. The database is emptied between tests, the processes stay.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from django.db import connection

from admin_integrations import fleet, states
from admin_integrations.models import Executor
from tasks import insight, routes, services
from tasks.models import TERMINAL, Task
from wallet import rules

T = TypeVar("T")
ROOT = Path(__file__).parent.parent.parent
SCALED = {
    "LEASE_SECONDS": "4",  # less would run out under a worker that is only starved by other processes
    "HEARTBEAT_SECONDS": "0.2",
    "LEADER_SECONDS": "1",
    "TICK_ADMIT": "0.05",
    "TICK_POLL": "0.05",
    "TICK_REAP": "0.1",
    "TICK_CHORES": "0.5",
    "REPUBLISH_SECONDS": "1",
    "POLL_MIN": "0.1",
    "POLL_MAX": "0.5",
    "BACKOFF_SCALE": "0.02",
    "FIND_DELAYS": "0.1,0.2,0.4",
    "SHUTDOWN_GRACE": "1",
    "WORKER_CONCURRENCY": "16",
    "OUTBOUND_ALLOWED_HOSTS": "127.0.0.1:*,localhost:*",
}


class Stack:
    """Processes by name: `worker`, `worker-2`, `media`, `orchestrator`."""

    def __init__(self, **environment: str) -> None:
        name = connection.settings_dict["NAME"]
        url = os.environ["DATABASE_URL"]
        head, _, query = url.partition("?")
        base = head.rsplit("/", 1)[0]
        self.environment = {
            **os.environ,
            **SCALED,
            "DATABASE_URL": f"{base}/{name}?{query}" if query else f"{base}/{name}",
            **environment,
        }
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> "Stack":
        for name in names:
            kind = name.split("-")[0]
            command = [sys.executable, "-m", "genpulse.cli.processes", kind]
            self.processes[name] = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdout=subprocess.DEVNULL
            )
        return self

    def ensure(self, *names: str) -> "Stack":
        """Exactly these are running."""
        for name in set(self.processes) - set(names):
            self.kill(name)
        alive = {name for name, process in self.processes.items() if process.poll() is None}
        return self.start(*(name for name in names if name not in alive))

    def kill(self, name: str, sig: int = signal.SIGKILL) -> None:
        self.processes[name].send_signal(sig)
        if sig == signal.SIGKILL:
            self.processes.pop(name).wait()

    def restart(self, name: str) -> None:
        self.kill(name)
        self.start(name)

    def stop(self) -> None:
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.processes.clear()


def eventually(check: Callable[[], T], seconds: float = 60) -> T:
    """The first true answer of `check`; fails when none comes in time."""
    until = time.monotonic() + seconds
    while True:
        answer = check()
        if answer:
            return answer
        assert time.monotonic() < until, f"not in {seconds} s: {check}"
        time.sleep(0.05)


def all_ended(ids: Sequence[Any], seconds: float = 60) -> list[Task]:
    """The tasks, when every one of them has ended."""

    def ended() -> list[Task]:
        tasks = list(Task.objects.filter(pk__in=ids).order_by("pk"))
        return tasks if all(task.status in TERMINAL for task in tasks) else []

    return eventually(ended, seconds)


def sandbox(name: str = "sandbox-1", slots: int = 8, **options: Any) -> Executor:
    executor = Executor.objects.create(name=name, type="sandbox", max_concurrency=slots, **options)
    fleet.forget()
    return executor


def forget_everything() -> None:
    """What this process remembers of a database that was just emptied."""
    fleet.forget()
    routes.forget()
    insight.forget()
    states.forget()
    rules.cache.forget()
    services._waiting.clear()
