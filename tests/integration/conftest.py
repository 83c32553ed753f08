"""Fixtures of the integration floor."""

from collections.abc import Iterator

import pytest

from tests.integration.stack import forget_everything


@pytest.fixture(autouse=True)
def _fresh_memory() -> Iterator[None]:
    forget_everything()
    yield
    forget_everything()
