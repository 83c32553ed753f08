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
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import django
import pytest
import redis
from hypothesis import HealthCheck, settings
from pytest_django.plugin import blocking_manager_key

from genpulse.embedded import Postgres, Running, Valkey, free_port

if TYPE_CHECKING:
    from pytest_django import DjangoDbBlocker

    from tests.integration.stack import Stack

# No test fails because the machine is busy.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

HOME = Path(tempfile.mkdtemp(prefix="genpulse-test-"))
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
AT_WORK = {"stack", "web"}  # the fixtures with processes
servers: list[Running] = []
stacks: "list[Stack]" = []


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


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The long ones first, so that xdist's workers end together; those with processes in a row."""
    items.sort(key=turn)


def turn(item: pytest.Item) -> int:
    if item.get_closest_marker("acceptance"):
        return 0
    fixtures = fixtures_of(item)
    return 1 if "web" in fixtures else 2 if "stack" in fixtures else 3


def fixtures_of(item: pytest.Item) -> set[str]:
    return set(getattr(item, "fixturenames", ()))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that asks for no processes meets neither them nor what they have left."""
    if at_work() and not AT_WORK & fixtures_of(item):
        send_home(item.config.stash[blocking_manager_key])


def at_work() -> bool:
    return any(stack.processes for stack in stacks)


def send_home(blocker: "DjangoDbBlocker") -> None:
    from django.db import connection

    from tests.emptying import empty

    for stack in stacks:
        stack.stop()
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        client.flushall()
    with blocker.unblock():
        empty(running=False)
        connection.close()


@pytest.fixture(scope="session", autouse=True)
def _emptied_quickly() -> Iterator[None]:
    from django.test import TransactionTestCase

    from tests.emptying import empty

    def emptied(_: TransactionTestCase) -> None:
        empty(running=at_work())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", emptied)
        yield


@pytest.fixture(scope="session", autouse=True)
def _static_files_found_once() -> Iterator[None]:
    """Every client has a middleware of its own, which looks for all static files."""
    from whitenoise.middleware import WhiteNoiseMiddleware

    found: dict[str, object] = {}
    look = WhiteNoiseMiddleware.add_files_from_finders

    def find(self: WhiteNoiseMiddleware) -> None:
        if not found:
            look(self)
            found.update(self.files)
        self.files = found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WhiteNoiseMiddleware, "add_files_from_finders", find)
        yield


@pytest.fixture(scope="session")
def processes(django_db_setup: None, django_db_blocker: "DjangoDbBlocker") -> "Iterator[Stack]":
    """They are shared by the tests that need them: starting costs more than most tests."""
    from tests.emptying import hang_up
    from tests.integration.stack import Stack

    with django_db_blocker.unblock():
        stacks.append(Stack())
    yield stacks[0]
    stacks.pop().stop()
    with django_db_blocker.unblock():
        hang_up()


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
