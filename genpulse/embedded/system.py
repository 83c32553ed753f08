"""What both servers need of the machine: a user to run as, folders of theirs, ports, a start, an end."""

import errno
import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

UNPRIVILEGED = "nobody"
CHILD = str(Path(__file__).with_name("child.py"))


class ServerError(Exception):
    """A server did not start; the message has the end of its log."""


def server_user() -> str:
    """The user the servers run as: PostgreSQL refuses root. Empty: the one we are."""
    return UNPRIVILEGED if os.geteuid() == 0 else ""


def child_command(command: list[str], on_parent_death: signal.Signals, user: str = "") -> list[str]:
    """`command`, wrapped so that it gets a signal when its parent ends; it keeps the wrapper's pid."""
    return [sys.executable, "-I", "-S", CHILD, str(int(on_parent_death)), user, *command]


def own_folder(folder: Path) -> None:
    """Make `folder` (mode 700) the servers' own and reachable for them."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    give_away(folder)
    if server_user():
        make_passable(folder.parent)


def give_away(path: Path) -> None:
    """Make the servers' user, when there is one, the owner of `path`."""
    if user := server_user():
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def make_passable(folder: Path) -> None:
    """Let the servers' user pass through `folder` and its parents, without letting it look inside."""
    user = pwd.getpwnam(UNPRIVILEGED).pw_uid
    for place in (folder.resolve(), *folder.resolve().parents):
        status = place.stat()
        if status.st_uid != user and not status.st_mode & 0o001:
            place.chmod(status.st_mode | 0o001)


def make_executable(program: Path, *trees: Path) -> None:
    """Let the servers' user run `program`, which needs `trees`, also when a strict umask installed it."""
    user = server_user()
    if not user or _runs(program, user):
        return
    for tree in trees:
        make_passable(tree)
        for path in (tree, *tree.rglob("*")):
            mode = path.stat().st_mode
            path.chmod(mode | 0o004 | (mode & 0o100) >> 6)


def _runs(program: Path, user: str) -> bool:
    try:
        run([str(program), "--version"], user=user)
    except (OSError, ServerError):
        return False
    return True


def secret_in(path: Path) -> str:
    """The secret kept in `path` (mode 600), made at the first call."""
    if not path.exists():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text().strip()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether nobody listens there."""
    return bool(_bound(port, host))


def free_port(wanted: int = 0, host: str = "127.0.0.1") -> int:
    """`wanted` when nobody listens there, else any free port."""
    return _bound(wanted, host) or _bound(0, host)


def _bound(port: int, host: str) -> int:
    """`port`, or the one the kernel chose for 0; 0 when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ServerError(f"cannot listen at {host}:{port}: {error.strerror}") from error
            return 0
        return int(probe.getsockname()[1])


def run(command: list[str], *, user: str = "", text: str = "") -> str:
    """Output of a short command. Raises ServerError with what it complained about."""
    done = subprocess.run(  # noqa: S603 - our own programs
        command,
        input=text,
        user=user or None,
        group=pwd.getpwnam(user).pw_gid if user else None,
        extra_groups=[] if user else None,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if done.returncode:
        raise ServerError(f"{Path(command[0]).name} failed: {(done.stderr or done.stdout)[-2000:]}")
    return done.stdout


def wait_until(ready: Callable[[], bool], seconds: float, alive: Callable[[], bool]) -> bool:
    """True as soon as `ready()`; False when the time is over or `alive()` is not."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and alive():
        if ready():
            return True
        time.sleep(0.02)
    return ready()


class Running:
    """A server started by this very process, for tests and tools; it ends with this process."""

    def __init__(
        self,
        command: list[str],
        *,
        stop: signal.Signals,
        ready: Callable[[], bool],
        log: Path,
    ) -> None:
        """Returns when `ready()`. Raises ServerError after 30 s or when the program ends."""
        self.stop_signal = stop
        with log.open("ab") as sink:
            self.process = subprocess.Popen(  # noqa: S603 - our own programs
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env={**os.environ, "GENPULSE_PARENT": str(os.getpid())},
            )
        if not wait_until(ready, 30, lambda: self.process.poll() is None):
            self.stop()
            raise ServerError(f"{command[-1]} did not start: {log.read_text()[-2000:]}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
