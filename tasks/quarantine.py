"""The quarantine worker: suspect tasks run there alone, one after the other, so that no neighbour dies with them.

It is started when such a task waits and nobody alive would take it, by the supervisor of the instance or, where
there is none, as a child of the orchestrator; it ends by itself when it has been idle for a while.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import structlog

from genpulse import sql
from genpulse.config import config
from genpulse.embedded.system import child_command
from genpulse.supervisor import Supervisor

log = structlog.get_logger(__name__)
PROGRAM = "quarantine"
PATIENCE = 10.0  # seconds a worker that was started has to sign on

NEEDED = """
SELECT EXISTS (SELECT 1 FROM tasks_task WHERE crashes >= 2 AND finished_at IS NULL
               AND (status = 'admitted' OR status = 'queued' AND ready)),
       EXISTS (SELECT 1 FROM tasks_worker WHERE quarantine AND NOT draining
               AND last_seen > now() - make_interval(secs => %s))
"""


class Quarantine:
    """One for each orchestrator; only the leader asks it."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.started = 0.0

    def ensure(self) -> bool:
        """Start the worker when it is needed and none lives; True when it was started now."""
        needed, alive = sql.fetch(NEEDED, [config.lease_seconds])[0]
        # A child that died is known to be dead before its row says so.
        alive = alive and not self._has_died()
        if not needed or alive or self._is_starting():
            return False
        self.started = time.monotonic()
        log.info("quarantine.start")
        if not self._by_supervisor():
            self.child = _start()
        return True

    def _has_died(self) -> bool:
        return self.child is not None and self.child.poll() is not None

    def _is_starting(self) -> bool:
        if self.child is not None:
            return self.child.poll() is None
        return time.monotonic() - self.started < PATIENCE

    def _by_supervisor(self) -> bool:
        """True when a supervisor is there: whatever it says, the program is its affair."""
        socket = os.environ.get("GENPULSE_SUPERVISOR")
        if not socket:
            return False
        try:
            Supervisor(Path(socket)).start(PROGRAM)
        except OSError as error:
            log.warning("quarantine.supervisor", error=type(error).__name__)
            return False
        return True


def _start() -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "genpulse.cli.processes", PROGRAM]
    return subprocess.Popen(  # noqa: S603 - our own program
        child_command(command, signal.SIGTERM),
        stdin=subprocess.DEVNULL,
        env={**os.environ, "GENPULSE_PARENT": str(os.getpid())},
    )
