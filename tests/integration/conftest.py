"""Fixtures of the integration floor."""

from collections.abc import Iterator

import pytest
from pytest_django import DjangoDbBlocker

from tests.integration.stack import Stack, forget_everything


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
