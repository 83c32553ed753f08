"""An instance: a folder (DIR of `--data DIR`) with everything `genpulse up` keeps on this machine.

instance.json     addresses and the environment its processes share (mode 600)
secret_key, encryption_keys, flower.password, admin.key     generated secrets (mode 600)
postgres/ valkey/ assets/ logs/ run/
"""

import base64
import fcntl
import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from genpulse.embedded.system import secret_in
from genpulse.supervisor import Supervisor

SHARED = (
    "DATABASE_URL",
    "REDIS_URL",
    "REDIS_LIVE_URL",
    "SECRET_KEY",
    "ENCRYPTION_KEYS",
    "FLOWER_BASIC_AUTH",
    "HOST",
    "PORT",
    "GENPULSE_DATA",
    "GENPULSE_SUPERVISOR",
)
DATABASE_NAMES = ("DATABASE_URL", "DB_HOST")
REDIS_NAMES = ("REDIS_URL", "REDIS_HOST")


def given(*names: str) -> bool:
    """Whether the environment sets one of these names."""
    return any(os.environ.get(name) for name in names)


def in_production() -> bool:
    """Asked before the configuration can be read, because `up` adds to the environment first."""
    word = os.environ.get("ENVIRONMENT") or os.environ.get("ENV") or ""
    return word in {"production", "prod"}


class Instance:
    """Paths, state and environment of one folder; nothing is created by looking at it."""

    def __init__(self, folder: Path) -> None:
        self.home = folder.expanduser().absolute()
        self.logs = self.home / "logs"
        self.run = self.home / "run"
        self.lock = self.run / "supervisor.lock"
        self.up_lock = self.run / "up.lock"
        self.admin_key_file = self.home / "admin.key"
        self.demo_mark = self.home / "demo.done"

    @property
    def state(self) -> dict[str, Any]:
        """What the last `up` wrote, or nothing."""
        try:
            return dict(json.loads((self.home / "instance.json").read_text()))
        except FileNotFoundError:
            return {}

    @property
    def is_known(self) -> bool:
        """Whether an `up` ever began here, even one that failed before it wrote anything else."""
        return bool(self.state) or self.up_lock.exists()

    def write_state(self, state: dict[str, Any]) -> None:
        fresh = self.home / "instance.json.new"
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(state, file, indent=1)
        fresh.replace(self.home / "instance.json")

    @property
    def base_url(self) -> str:
        return str(self.state.get("base_url", ""))

    @property
    def admin_key(self) -> str:
        try:
            return self.admin_key_file.read_text().strip()
        except FileNotFoundError:
            return ""

    @cached_property
    def socket(self) -> Path:
        """Control socket of the supervisor; elsewhere when the path is too long for the kernel."""
        if len(str(self.run)) < 80:
            return self.run / "supervisor.sock"
        name = hashlib.sha256(str(self.home).encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"genpulse-{os.getuid()}-{name}.sock"

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.socket)

    def supervisor_pid(self) -> int | None:
        """The pid of the supervisor that lives, whatever stale files say: it holds a lock."""
        try:
            with self.lock.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return int(self.lock.read_text() or 0) or None
        return None

    def make_folders(self) -> None:
        for folder in (self.home, self.logs, self.run):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    @contextmanager
    def one_at_a_time(self) -> Iterator[None]:
        """Two `up` of one folder: the second one waits and finds it running."""
        self.make_folders()
        with self.up_lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def enter(self) -> None:
        """Take over the environment of the instance, so that Django's settings fit it."""
        os.environ["GENPULSE_DATA"] = str(self.home)
        for name, value in self.state.get("environment", {}).items():
            os.environ.setdefault(name, value)

    def remember_environment(self) -> dict[str, str]:
        """The names every process of the instance must agree on, as they are set now."""
        return {name: os.environ[name] for name in SHARED if os.environ.get(name)}

    def generate_secrets(self) -> None:
        """What is not set and may be generated; in production everything must be set."""
        os.environ["GENPULSE_DATA"] = str(self.home)
        os.environ["GENPULSE_SUPERVISOR"] = str(self.socket)
        if in_production():
            return
        if not given("SECRET_KEY", "JWT_SECRET_KEY"):
            os.environ["SECRET_KEY"] = secret_in(self.home / "secret_key")
        if not given("ENCRYPTION_KEYS"):
            os.environ["ENCRYPTION_KEYS"] = self._encryption_keys()
        if not given("FLOWER_BASIC_AUTH"):
            os.environ["FLOWER_BASIC_AUTH"] = f"genpulse:{secret_in(self.home / 'flower.password')}"

    def _encryption_keys(self) -> str:
        path = self.home / "encryption_keys"
        if not path.exists():
            key = base64.b64encode(secrets.token_bytes(32)).decode()
            path.touch(mode=0o600)
            path.write_text(f"k1:{key}\n")
        return path.read_text().strip()
