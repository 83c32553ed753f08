"""Fixtures of the integration floor."""

from collections.abc import Iterator

import pytest
from django.test import override_settings

from tests.integration.stack import forget_everything


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


@pytest.fixture(autouse=True)
def _fresh_memory() -> Iterator[None]:
    forget_everything()
    yield
    forget_everything()
