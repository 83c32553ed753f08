"""The cast: Alice owns, Bob is a stranger. Files live in a folder of the test."""

import asyncio
import io
from typing import Any

import pytest
from django.test import Client
from PIL import Image

from genpulse.auth import services
from genpulse.auth.models import User
from genpulse.config import config


@pytest.fixture(autouse=True)
def storage_folder(tmp_path, monkeypatch, settings):
    folder = tmp_path / "assets"
    monkeypatch.setattr(config, "storage_local_path", folder)
    settings.ROOT_URLCONF = "media.urls"
    return folder


@pytest.fixture
def alice(db) -> User:
    return services.create_user("alice")


@pytest.fixture
def bob(db) -> User:
    return services.create_user("bob")


def client_of(user: User, **options: Any) -> Client:
    _, text = services.create_key(user, name="test", **options)
    return Client(headers={"Authorization": f"Bearer {text}"})


@pytest.fixture
def api(alice) -> Client:
    return client_of(alice)


@pytest.fixture
def stranger(bob) -> Client:
    return client_of(bob)


def picture(
    width: int = 40, height: int = 30, form: str = "PNG", mode: str = "RGB", **options: Any
) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (width, height), "crimson").save(buffer, form, **options)
    return buffer.getvalue()


def body_of(response: Any) -> bytes:
    """What a streaming answer sends, read the way an ASGI server reads it."""

    async def collect() -> bytes:
        return b"".join([part async for part in response])

    return asyncio.run(collect())


def local(url: str) -> str:
    """A signed URL without its scheme and host."""
    return "/" + url.split("/", 3)[3]
