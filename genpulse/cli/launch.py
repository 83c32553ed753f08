"""Starting and stopping an instance: servers from wheels, our processes, one supervisor over all."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import psutil

from genpulse.cli import client, processes
from genpulse.cli.instance import DATABASE_NAMES, REDIS_NAMES, Instance, given, in_production
from genpulse.embedded import Postgres, Valkey, free_port
from genpulse.embedded.system import is_free
from genpulse.supervisor import Program, write_configuration

READY_SECONDS = 120
FLOWER_PORT = 5555
Report = Callable[[str], None]


class LaunchError(Exception):
    """The instance did not start; the message says what to do."""


class Launch:
    """One start of `instance` on `port` (0: a free one)."""

    def __init__(self, instance: Instance, port: int, report: Report) -> None:
        self.instance = instance
        self.host = os.environ.get("HOST") or "127.0.0.1"
        self.port = port
        self.report = report
        self.before = instance.state
        self.programs: list[Program] = []
        self.postgres: Postgres | None = None
        self.valkey: Valkey | None = None
        self.flower_port = 0

    def start(self) -> None:
        """Returns when the database accepts connections. Raises LaunchError, ConfigError, ServerError."""
        self._choose_port()
        _end_leftovers(self.instance)
        self.instance.generate_secrets()
        self._use_servers()
        self._use_processes()
        self._write_state()
        self._spawn()
        self._await_servers()

    def _choose_port(self) -> None:
        if self.port and not is_free(self.port, self.host):
            raise _taken(self.port)
        self.port = self.port or free_port(host=self.host)
        os.environ["PORT"] = str(self.port)

    def _use_servers(self) -> None:
        """What the environment names, else our own; production brings its own."""
        if not given(*DATABASE_NAMES) and not in_production():
            self.report("PostgreSQL (embedded)")
            self.postgres = Postgres(
                self.instance.home / "postgres", port=self._port_of("postgres")
            )
            self.postgres.prepare()
            os.environ["DATABASE_URL"] = self.postgres.url()
            self._add_server("postgres", self.postgres.command(), "INT")
        if not given(*REDIS_NAMES) and not in_production():
            self.report("Valkey (embedded)")
            self.valkey = Valkey(self.instance.home / "valkey", port=self._port_of("valkey"))
            self.valkey.prepare()
            os.environ["REDIS_URL"] = self.valkey.url()
            self._add_server("valkey", self.valkey.command(), "TERM")

    def _add_server(self, name: str, command: list[str], stop_signal: str) -> None:
        self.programs.append(
            Program(
                name=name,
                command=command,
                group="servers",
                stop_signal=stop_signal,
                stop_seconds=30,
            )
        )

    def _port_of(self, name: str) -> int:
        """The one of the last start when it is still free, so that addresses stay; never that of the web process,
        which nobody holds yet."""
        port = free_port(int(self.before.get(f"{name}_port") or 0))
        while port == self.port:
            port = free_port()
        return port

    def _use_processes(self) -> None:
        """Raises ConfigError when the environment, complete by now, is refused."""
        from genpulse.config import config

        names = [name for name in processes.PROCESSES if name != "flower"]
        if given("FLOWER_BASIC_AUTH"):
            self.flower_port = free_port(FLOWER_PORT)
            os.environ["FLOWER_PORT"] = str(self.flower_port)
            names.append("flower")
        self.programs += [processes.program(name, config.shutdown_grace) for name in names]

    def _write_state(self) -> None:
        shown = "127.0.0.1" if self.host in {"0.0.0.0", "::"} else self.host  # noqa: S104 - compared only
        self.instance.write_state(
            {
                "base_url": f"http://{shown}:{self.port}",
                "database_url": self._shown_database(),
                "postgres_port": self.postgres.port if self.postgres else None,
                "valkey_port": self.valkey.port if self.valkey else None,
                "flower_url": f"http://127.0.0.1:{self.flower_port}" if self.flower_port else None,
                "flower_auth": os.environ.get("FLOWER_BASIC_AUTH") if self.flower_port else None,
                "environment": self.instance.remember_environment(),
            }
        )

    def _shown_database(self) -> str:
        from genpulse.config import config

        return self.postgres.tcp_url() if self.postgres else config.database_url

    def _spawn(self) -> None:
        configuration = write_configuration(
            self.instance.run,
            self.programs,
            socket=self.instance.socket,
            logs=self.instance.logs,
        )
        self.instance.socket.unlink(missing_ok=True)
        command = [sys.executable, "-m", "genpulse.supervisor.daemon"]
        with (self.instance.logs / "supervisord.out").open("wb") as sink:
            subprocess.Popen(  # noqa: S603 - ourselves
                [*command, str(configuration), str(self.instance.lock)],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                start_new_session=True,
                env={
                    **os.environ,
                    "GENPULSE_INSTANCE": str(self.instance.home),
                    "PYTHONUNBUFFERED": "1",
                },
            )

    def _await_servers(self) -> None:
        """Also returns when the supervisor holds its lock, so that its end can be seen."""
        end = time.monotonic() + 30
        while not self._servers_are_up():
            if time.monotonic() > end:
                raise LaunchError(f"the servers did not start\n{log_tails(self.instance)}")
            with contextlib.suppress(OSError):
                self.instance.supervisor.processes()  # being asked, it looks at once
            time.sleep(0.03)

    def _servers_are_up(self) -> bool:
        return (
            self.instance.supervisor_pid() is not None
            and (self.postgres is None or self.postgres.ready())
            and (self.valkey is None or self.valkey.ready())
        )


def _taken(port: int) -> LaunchError:
    return LaunchError(
        f"port {port} is taken; stop what listens there, or choose another with --port"
        " (--port 0 takes a free one)"
    )


def await_ready(instance: Instance, seconds: float = READY_SECONDS) -> None:
    """Returns when our `/ready` is 200. Raises LaunchError with the end of the logs, or when another answers."""
    began = time.monotonic()
    while time.monotonic() < began + seconds and instance.supervisor_pid() is not None:
        if client.is_ready(instance.base_url):
            if not _is_ours(instance):
                raise _taken(_port_of(instance))
            return
        time.sleep(0.1)
    waited = time.monotonic() - began
    raise LaunchError(f"not ready after {waited:.0f} s\n{log_tails(instance)}")


def _port_of(instance: Instance) -> int:
    return urlsplit(instance.base_url).port or 0


def _is_ours(instance: Instance) -> bool:
    """Whether our web process listens at our address: one that started at the same moment may have won it."""
    web = next((one["pid"] for one in instance.supervisor.processes() if one["name"] == "web"), 0)
    try:
        listens = psutil.Process(web).net_connections("inet") if web else []
    except psutil.Error:
        return False
    return any(
        one.status == psutil.CONN_LISTEN and one.laddr.port == _port_of(instance) for one in listens
    )


def start_the_rest(instance: Instance) -> None:
    """What waited so that the others start sooner; nothing when it runs already."""
    for name in processes.LATE:
        instance.supervisor.start(name)


def log_tails(instance: Instance, lines: int = 15) -> str:
    """The last lines of every process that wrote some since the supervisor began; the latest comes last."""
    began = instance.lock.stat().st_mtime if instance.lock.exists() else 0
    files = sorted(instance.logs.glob("*.log"), key=lambda path: path.stat().st_mtime)
    tails = []
    for path in files:
        if path.stem != "app" and path.stat().st_mtime >= began:
            tails += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-lines:]]
    return "\n".join(tails)


def _end_leftovers(instance: Instance) -> None:
    from genpulse.cli.leftovers import end_leftovers

    end_leftovers(instance.home)


def stop(instance: Instance, *, purge: bool = False) -> bool:
    """Stop it and leave no process; True when one ran. `purge` deletes the folder."""
    pid = instance.supervisor_pid()
    if pid is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
        _await_end(instance, pid)
    _end_leftovers(instance)
    if purge and instance.home.exists():
        if not instance.is_known:
            raise LaunchError(f"{instance.home} is no folder of an instance; nothing deleted")
        shutil.rmtree(instance.home)
    return pid is not None


def _await_end(instance: Instance, pid: int) -> None:
    """An orderly end takes at most the longest grace; then the kernel ends everything."""
    grace = float(os.environ.get("SHUTDOWN_GRACE") or 20)
    end = time.monotonic() + grace + 45
    while instance.supervisor_pid() == pid:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(OSError):
            instance.supervisor.processes()  # being asked, it looks at once
        time.sleep(0.05)
