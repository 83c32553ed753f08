"""supervisord with two changes: waits between restarts double up to 30 s, and restarts are counted.

Run as `python -m genpulse.supervisor.daemon CONFIGURATION LOCK`. While it lives it holds LOCK, which
the kernel lets go of however it ends; the file has its pid.
"""

import fcntl
import os
import sys
import time
from pathlib import Path
from typing import Any

from supervisor import process, supervisord
from supervisor.states import ProcessStates, getProcessStateDescription

LONGEST_WAIT = 30  # seconds


class PatientProcess(process.Subprocess):  # type: ignore[misc] # published without types
    """Waits 1, 2, 4 ... 30 s between starts of a program that does not stay up."""

    starts = 0
    backoff: int

    def spawn(self) -> Any:
        self.starts += 1
        return super().spawn()

    def change_state(self, new_state: int, expected: bool = True) -> Any:
        wait = min(LONGEST_WAIT, self.backoff * 2 or 1)
        changed = super().change_state(new_state, expected)
        if new_state == ProcessStates.BACKOFF:
            self.backoff, self.delay = wait, time.time() + wait
        return changed

    def describe(self) -> dict[str, Any]:
        """Name, pid (0: none), state and restarts."""
        return {
            "name": self.config.name,
            "pid": self.pid,
            "state": getProcessStateDescription(self.get_state()).lower(),
            "restarts": max(0, self.starts - 1),
        }


class Interface:
    """Methods `genpulse.*` of the control socket."""

    def __init__(self, daemon: Any) -> None:
        self.daemon = daemon

    def processes(self) -> list[dict[str, Any]]:
        """Every process, in the order they are stopped in."""
        groups = sorted(self.daemon.process_groups.values())
        return [member.describe() for group in groups for member in group.processes.values()]


def make_interface(daemon: Any, **_options: Any) -> Interface:
    return Interface(daemon)


def hold(lock: Path) -> bool:
    """Take `lock` for as long as this process lives; False when another one has it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return True


def main(configuration: str, lock: str) -> None:
    if not hold(Path(lock)):
        sys.exit("another supervisor runs this instance")
    os.environ["GENPULSE_PARENT"] = str(os.getpid())  # see genpulse.embedded.child
    process.Subprocess = PatientProcess
    supervisord.main(["-n", "-c", configuration])


if __name__ == "__main__":
    main(*sys.argv[1:])
