"""The official client, at home in a GenPulse of the tests."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from tasks.models import Task
from tests.integration.listeners import Remote, rich
from tests.integration.stack import eventually, sandbox

HELLO: list[Any] = [{"role": "user", "content": "one two three"}]
SAID = "[sandbox] sandbox-text: one two three"


@dataclass
class House:
    """One user: with the native API in one hand, OpenAI's client in the other."""

    native: Remote

    @classmethod
    def of(cls, base: str, name: str = "alice") -> "House":
        return cls(rich(base, name))

    @property
    def options(self) -> dict[str, Any]:
        key = self.native.who.headers["Authorization"].removeprefix("Bearer ")
        return {"base_url": f"{self.native.base}/openai/v1", "api_key": key, "timeout": 90}

    def client(self, **more: Any) -> OpenAI:
        return OpenAI(**self.options, **more)

    def eager(self, **more: Any) -> AsyncOpenAI:
        return AsyncOpenAI(**self.options, **more)


@pytest.fixture
def house(web: str) -> House:
    sandbox(slots=64)
    return House.of(web)


@pytest.fixture
def client(house: House) -> Iterator[OpenAI]:
    with house.client(max_retries=0) as made:
        yield made


def sandboxed(**controls: Any) -> dict[str, Any]:
    return {"sandbox": {"latency": 0, **controls}}


def ended(task_id: str, status: str) -> Task:
    """The task, when it has that status; fails when it ends otherwise."""

    def look() -> Task | None:
        task = Task.objects.get(pk=task_id)
        assert task.finished_at is None or task.status == status, task.status
        return task if task.finished_at else None

    found = eventually(look)
    assert found is not None
    return found
