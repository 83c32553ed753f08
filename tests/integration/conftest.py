"""Fixtures of the integration floor."""

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from genpulse.embedded import free_port
from tests.integration.listeners import is_up
from tests.integration.stack import Stack, eventually, forget_everything


@pytest.fixture(autouse=True)
def _fresh_memory() -> Iterator[None]:
    forget_everything()
    yield
    forget_everything()


@pytest.fixture(scope="session")
def processes(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Stack]:
    """They start once for all tests that need them: starting costs more than most tests."""
    with django_db_blocker.unblock():
        running = Stack()
    yield running
    running.stop()


@pytest.fixture
def stack(transactional_db: None, processes: Stack) -> Stack:
    """Orchestrator, one I/O worker and one media worker, alive, on an empty database."""
    return processes.ensure("orchestrator", "worker", "media")


@pytest.fixture
def web(transactional_db: None, processes: Stack) -> str:
    """The base URL of a web process beside those of `stack`."""
    port = processes.environment.setdefault("PORT", str(free_port()))
    processes.ensure("orchestrator", "worker", "media", "web")
    base = f"http://127.0.0.1:{port}"
    eventually(lambda: is_up(base))
    return base
