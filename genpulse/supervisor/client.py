"""Talking to the supervisor of an instance through its control socket."""

import os
from pathlib import Path
from typing import Any, TypedDict, cast

GROUP = "app"


class ProcessInfo(TypedDict):
    """`pid` is None when there is none; `state` is a word of supervisord in lower case."""

    name: str
    pid: int | None
    state: str
    restarts: int


def start(name: str) -> bool:
    """Ask the supervisor this process runs under for a program on demand; False without one, or when it runs."""
    socket = os.environ.get("GENPULSE_SUPERVISOR")
    try:
        return socket is not None and Supervisor(Path(socket)).start(name)
    except OSError:
        return False


class Supervisor:
    """Every method raises OSError when no supervisor listens at `socket`."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def processes(self) -> list[ProcessInfo]:
        found = cast("list[dict[str, Any]]", self._call("genpulse.processes"))
        return [cast("ProcessInfo", {**one, "pid": one["pid"] or None}) for one in found]

    def start(self, name: str) -> bool:
        """Start a program that runs on demand; False when it runs already or is unknown."""
        from xmlrpc.client import Fault

        try:
            return bool(self._call("supervisor.startProcess", f"{GROUP}:{name}", False))
        except Fault:
            return False

    def _call(self, method: str, *arguments: Any) -> Any:
        from xmlrpc.client import ServerProxy

        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self.socket}")
        try:
            server = ServerProxy("http://127.0.0.1", transport)
            return getattr(server, method)(*arguments)
        finally:
            transport.close()
