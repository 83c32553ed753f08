"""What a process checks before it starts, beyond its environment: the servers and the schema."""

import time
from collections.abc import Callable
from typing import TypeVar

import redis
import structlog
from django.db import OperationalError, connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from genpulse import addresses, schema
from genpulse.config import config
from genpulse.refusals import ConfigError

log = structlog.get_logger(__name__)

OLDEST_POSTGRES = 140000
PATIENCE = 30.0  # seconds for a database that starts, or is being migrated, at the same time
T = TypeVar("T")


def check(*, patience: float = PATIENCE) -> None:
    """Returns when this process may start. Raises ConfigError with one line for each reason why not."""
    _configured()
    end = time.monotonic() + patience
    _refuse(old_postgres(_patiently(postgres_version, end)))
    _refuse(_evicting_broker())
    _current_schema(end)
    if config.production and addresses.same_server(config.redis_url, config.redis_live_url):
        log.warning("broker and live state share one Redis server", hint="set REDIS_LIVE_URL")


def _configured() -> None:
    names = {"DATABASE_URL": config.database_url, "REDIS_URL": config.redis_url}
    names["SECRET_KEY"] = config.secret_key
    missing = [name for name, value in names.items() if not value]
    if missing:
        raise ConfigError([f"{name}: missing; set it, or use `genpulse up`" for name in missing])


def _refuse(reason: str) -> None:
    if reason:
        raise ConfigError([reason])


def postgres_version() -> int:
    """`180006` for 18.6. Raises OperationalError."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version_num")
        return int(cursor.fetchone()[0])


def _patiently(attempt: Callable[[], T], end: float) -> T:
    while True:
        try:
            return attempt()
        except OperationalError as error:
            connection.close()
            if time.monotonic() > end:
                raise ConfigError(
                    [f"DATABASE_URL: cannot connect: {type(error).__name__}"]
                ) from error
        time.sleep(0.1)


def old_postgres(version: int) -> str:
    """The reason to refuse this server, or nothing."""
    if version >= OLDEST_POSTGRES:
        return ""
    return f"DATABASE_URL: PostgreSQL {version // 10000} is too old; GenPulse needs 14 or newer"


def broker_policy() -> str:
    """What the broker does when memory is full. Raises RedisError."""
    with redis.Redis.from_url(
        config.redis_url, retry=Retry(NoBackoff(), 1), socket_timeout=5
    ) as client:
        return str(client.info("memory").get("maxmemory_policy", "noeviction"))


def _evicting_broker() -> str:
    """A broker that is away is no reason: work waits in PostgreSQL until it is back."""
    if not config.production:
        return ""
    try:
        policy = broker_policy()
    except redis.RedisError as error:
        log.warning("cannot ask the broker for its eviction policy", error=error)
        return ""
    if policy == "noeviction":
        return ""
    return f"REDIS_URL: the broker evicts keys ({policy}); set maxmemory-policy noeviction"


def _current_schema(end: float) -> None:
    while True:
        state = _patiently(schema.state, end)
        if state == "newer":
            raise ConfigError(["DATABASE_URL: the schema is newer than this program; upgrade it"])
        if state == "current":
            connection.close()
            return
        if time.monotonic() > end:
            raise ConfigError(["DATABASE_URL: migrations are missing; run `genpulse init-db`"])
        time.sleep(0.2)
