"""Clients of the real server that listen: they submit and read over sockets, streams as lists of events."""

import json
from collections.abc import Iterator
from typing import Any

import requests

from tests.integration.cast import Caller, caller
from wallet import services as wallet


class Remote:
    """A caller over a real socket."""

    def __init__(self, base: str, who: Caller) -> None:
        self.base, self.who = base, who
        self.session = requests.Session()
        self.session.headers.update(who.headers)

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.session.get(self.base + path, timeout=60, **options)

    def post(self, path: str, body: Any = None, **options: Any) -> requests.Response:
        return self.session.post(self.base + path, json=body, timeout=60, **options)

    def submit(self, sandbox: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
        answer = self.post("/api/v1/tasks", task_body(sandbox, **fields))
        assert answer.status_code == 201, answer.content
        made: dict[str, Any] = answer.json()
        return made

    def stream(self, path: str, **headers: str) -> "Frames":
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return Frames(self.get(path, headers={"Accept": "text/event-stream", **named}, stream=True))


def task_body(sandbox: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    given = {"prompt": "a red kite", "sandbox": {"latency": 0, **(sandbox or {})}}
    return {"model": "sandbox-text", "input": given, **fields}


class Frames:
    """The frames of an SSE answer, as they come: (label, event)."""

    def __init__(self, answer: requests.Response) -> None:
        self.answer = answer

    def __iter__(self) -> Iterator[tuple[str | None, dict[str, Any]]]:
        label = None
        for line in self.answer.iter_lines(chunk_size=1, decode_unicode=True):
            if line.startswith("id: "):
                label = line[4:]
            elif line.startswith("data: "):
                yield label, json.loads(line[6:])
                label = None

    def events(self) -> list[dict[str, Any]]:
        return [event for _, event in self]


def joined(events: list[dict[str, Any]]) -> str:
    """The texts of the deltas since the last reset; every offset must fit."""
    text = ""
    for event in events:
        if event["type"] == "task.delta":
            text = "" if event["data"]["reset"] else text
            assert event["data"]["offset"] == len(text)
            text += event["data"]["text"]
    return text


def stored(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["id"]]


def rich(base: str, name: str = "alice") -> Remote:
    """A caller with credits."""
    who = caller(name)
    wallet.deposit(who.user.account_id, 1_000_000_000, reason="test")
    return Remote(base, who)


def is_up(base: str) -> bool:
    try:
        return requests.get(f"{base}/healthz", timeout=5).status_code == 200
    except requests.RequestException:
        return False
