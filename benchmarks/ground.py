"""What every benchmark stands on: servers of its own, and processes as they are shipped."""

import base64
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from genpulse.embedded import Postgres, Running, Valkey, free_port

PATIENCE = 60.0  # seconds for a process to be ready
Process = subprocess.Popen[bytes]


class Ground:
    """PostgreSQL and Valkey in a temporary folder; Django is set up inside the block, the schema made."""

    def __enter__(self) -> "Ground":
        self.home = Path(tempfile.mkdtemp(prefix="genpulse-bench-"))
        postgres, valkey = Postgres(self.home / "pg"), Valkey(self.home / "vk", port=free_port())
        self.servers: list[Running] = [postgres.start(), valkey.start()]
        self.port = free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        os.environ.update(
            DATABASE_URL=postgres.url(),
            REDIS_URL=valkey.url(0),
            REDIS_LIVE_URL=valkey.url(1),
            GENPULSE_DATA=str(self.home / "data"),
            SECRET_KEY="a-secret-for-benchmarks-0123456789abcdef",  # noqa: S106
            ENCRYPTION_KEYS="b1:" + base64.b64encode(bytes(32)).decode(),
            MAX_WAITING_PER_USER="0",
            LOG_LEVEL="WARNING",
            PORT=str(self.port),
            OUTBOUND_ALLOWED_HOSTS="127.0.0.1:*",
            DJANGO_SETTINGS_MODULE="genpulse.settings",
        )
        import django
        from django.core.management import call_command

        django.setup()
        call_command("migrate", verbosity=0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        while self.servers:
            self.servers.pop().stop()
        shutil.rmtree(self.home, ignore_errors=True)

    @contextmanager
    def processes(self, *names: str, **environment: str) -> Iterator[list[Process]]:
        """The named processes of GenPulse, ready for work inside the block."""
        commands = [[sys.executable, "-m", "genpulse.cli.processes", name] for name in names]
        with started(commands, **environment) as running:
            if "web" in names:
                await_answer(f"{self.base}/ready")
            self._await_workers(names)
            yield running

    @staticmethod
    def _await_workers(names: Sequence[str]) -> None:
        from genpulse import sql

        workers = names.count("worker") + names.count("media")
        alive = "SELECT count(*) FROM tasks_worker WHERE last_seen > now() - interval '3 seconds'"
        leads = "SELECT count(*) FROM tasks_orchestratorlease WHERE until > now()"
        await_(lambda: int(sql.fetch(alive)[0][0]) >= workers)
        await_(lambda: "orchestrator" not in names or bool(sql.fetch(leads)[0][0]))


@contextmanager
def started(commands: Sequence[Sequence[str]], **environment: str) -> Iterator[list[Process]]:
    """The commands, running inside the block."""
    running = [
        subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL)
        for command in commands
    ]
    try:
        yield running
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def await_(check: Callable[[], bool], patience: float = PATIENCE) -> None:
    """Raises TimeoutError."""
    until = time.monotonic() + patience
    while not check():
        if time.monotonic() > until:
            raise TimeoutError(f"not within {patience} s")
        time.sleep(0.02)


def await_answer(url: str) -> None:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own server
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    await_(answers)


def rss(process: Process) -> float:
    """Resident memory of a process and its children, MB."""
    import psutil

    top = psutil.Process(process.pid)
    everybody = [top, *top.children(recursive=True)]
    return round(sum(one.memory_info().rss for one in everybody) / 1e6, 1)
