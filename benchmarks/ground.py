"""What every benchmark stands on: servers of its own, processes as they are shipped, one way to report."""

import base64
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from genpulse.embedded import Postgres, Running, Valkey, free_port


class Ground:
    """PostgreSQL and Valkey in a temporary folder; Django is set up inside the block."""

    def __enter__(self) -> "Ground":
        self.home = Path(tempfile.mkdtemp(prefix="genpulse-bench-"))
        postgres, valkey = Postgres(self.home / "pg"), Valkey(self.home / "vk", port=free_port())
        self.servers: list[Running] = [postgres.start(), valkey.start()]
        os.environ.update(
            DATABASE_URL=postgres.url(),
            REDIS_URL=valkey.url(0),
            REDIS_LIVE_URL=valkey.url(1),
            GENPULSE_DATA=str(self.home / "data"),
            SECRET_KEY="a-secret-for-benchmarks-0123456789abcdef",  # noqa: S106
            ENCRYPTION_KEYS="b1:" + base64.b64encode(bytes(32)).decode(),
            MAX_WAITING_PER_USER="0",
            LOG_LEVEL="WARNING",
            DJANGO_SETTINGS_MODULE="genpulse.settings",
        )
        import django

        django.setup()
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

    @staticmethod
    def migrate() -> None:
        from django.core.management import call_command

        call_command("migrate", verbosity=0)

    @contextmanager
    def processes(self, *names: str, **environment: str) -> Iterator[list[subprocess.Popen[bytes]]]:
        """The named processes, running inside the block."""
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "genpulse.cli.processes", name],
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
            )
            for name in names
        ]
        try:
            time.sleep(3)
            yield started
        finally:
            for process in started:
                process.terminate()
            for process in started:
                process.wait()


def report(
    name: str, unit: str, ours: Sequence[float], baseline: Sequence[float], **extra: object
) -> None:
    """One JSON line: medians, their ratio, and the spread (max - min over the median)."""
    value, base = statistics.median(ours), statistics.median(baseline)
    line = {
        "name": name,
        "value": round(value, 2),
        "unit": unit,
        "baseline": round(base, 2),
        "ratio": round(value / base, 3),
        "spread": round((max(ours) - min(ours)) / value, 3),
        "baseline_spread": round((max(baseline) - min(baseline)) / base, 3),
        "runs": len(ours),
        "machine": f"{platform.machine()} x{os.cpu_count()}",
        "python": platform.python_version(),
        **extra,
    }
    print(json.dumps(line))
