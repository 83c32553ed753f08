"""A test session brings its own PostgreSQL and Valkey; they end with it, however it ends.

One PostgreSQL serves all xdist workers (pytest-django makes a database for each); every worker has
a Valkey of its own, because published messages know no databases. The servers must run before
Django reads its settings, which is why this happens when the file is imported.
"""

import atexit
import base64
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django
import pytest
import redis
from hypothesis import HealthCheck, settings

from genpulse.embedded import Postgres, Running, Valkey, free_port

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker

    from tests.integration.stack import Stack

# No test fails because the machine is busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

HOME = Path(tempfile.mkdtemp(prefix="genpulse-test-"))
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
servers: list[Running] = []


def start_servers() -> None:
    if not IS_WORKER:
        postgres = Postgres(HOME / "postgres", throwaway=True)
        servers.append(postgres.start())
        os.environ["DATABASE_URL"] = postgres.url()
    valkey = Valkey(HOME / "valkey", port=free_port(), throwaway=True)
    servers.append(valkey.start())
    os.environ.update(
        REDIS_URL=valkey.url(0),
        REDIS_LIVE_URL=valkey.url(1),
        GENPULSE_DATA=str(HOME / "data"),
        SECRET_KEY="a-secret-that-only-tests-know-0123456789",
        ENCRYPTION_KEYS="t1:" + base64.b64encode(bytes(range(32))).decode(),
        DJANGO_SETTINGS_MODULE="genpulse.settings",
    )
    django.setup()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """A worker that inherits this would read the settings before it has a Valkey of its own."""
    del os.environ["DJANGO_SETTINGS_MODULE"]


def pytest_unconfigure() -> None:
    while servers:
        servers.pop().stop()
    shutil.rmtree(HOME, ignore_errors=True)


atexit.register(pytest_unconfigure)  # also when the session does not come about
start_servers()

# Rows that a test with real transactions must leave: those of migrations, and what running processes remember.
SEEDED = {
    "wallet_pricerule",
    "tasks_route",
    "tasks_chore",
    "tasks_worker",
    "tasks_orchestratorlease",
}
LEDGER = ("wallet_journal", "wallet_entry")


@pytest.fixture(scope="session", autouse=True)
def ledger_can_be_emptied() -> Iterator[None]:
    """Tests with real transactions end with TRUNCATE, which the ledger's triggers refuse."""
    from django.db import OperationalError
    from django.db.backends.postgresql.operations import DatabaseOperations

    flush = DatabaseOperations.sql_flush

    def sql_flush(self: Any, style: Any, tables: Any, **options: Any) -> list[str]:
        statements: list[str] = flush(self, style, sorted(set(tables) - SEEDED), **options)
        ledger = [f"ALTER TABLE {table} {{}} TRIGGER USER" for table in LEDGER]
        return [
            *(table.format("DISABLE") for table in ledger),
            *statements,
            "DELETE FROM wallet_pricerule WHERE match_value NOT LIKE 'sandbox%'",
            *(table.format("ENABLE") for table in ledger),
        ]

    execute = DatabaseOperations.execute_sql_flush

    def execute_sql_flush(self: Any, statements: list[str]) -> None:
        """Running processes read tables in other orders than TRUNCATE locks them."""
        for _ in range(9):
            try:
                return execute(self, statements)
            except OperationalError:
                time.sleep(0.1)
        return execute(self, statements)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "execute_sql_flush", execute_sql_flush)
        patch.setattr(DatabaseOperations, "sql_flush", sql_flush)
        yield


@pytest.fixture(scope="session")
def processes(django_db_setup: None, django_db_blocker: "DjangoDbBlocker") -> "Iterator[Stack]":
    """They start once for all tests that need them: starting costs more than most tests."""
    from tests.integration.stack import Stack

    with django_db_blocker.unblock():
        running = Stack()
    yield running
    running.stop()


@pytest.fixture
def stack(transactional_db: None, processes: "Stack") -> "Stack":
    """Orchestrator, one I/O worker and one media worker, alive, on an empty database."""
    return processes.ensure("orchestrator", "worker", "media")


@pytest.fixture
def web(transactional_db: None, processes: "Stack") -> str:
    """The base URL of a web process beside those of `stack`."""
    from tests.integration.listeners import is_up
    from tests.integration.stack import eventually

    port = processes.environment.setdefault("PORT", str(free_port()))
    processes.ensure("orchestrator", "worker", "media", "web")
    base = f"http://127.0.0.1:{port}"
    eventually(lambda: is_up(base), 90)
    return base


@pytest.fixture
def clean_redis() -> Iterator[redis.Redis]:
    """The live database (REDIS_LIVE_URL), after both databases were emptied."""
    with redis.Redis.from_url(os.environ["REDIS_LIVE_URL"]) as client:
        client.flushall()
        yield client
