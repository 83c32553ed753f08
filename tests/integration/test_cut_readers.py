"""Readers that are cut a hundred times, while Redis forgets, put together exactly what is stored."""

import itertools
import json
import random
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from websockets.sync.client import connect

from genpulse.events.bells import live
from genpulse.events.cursors import Cursor
from genpulse.events.log import NewEvent, append
from tasks import events
from tasks.events import Stored
from tasks.lifecycle import apply
from tasks.moves import Cancel, Promote
from tests.integration.listeners import Remote, rich, task_body
from tests.integration.stack import sandbox
from tests.integration.test_event_lists import held_open

LATER = (datetime.now(UTC) + timedelta(days=1)).isoformat()  # nobody else touches such tasks
CUTS = 25  # of each of four readers
END = "test.end"
LONG = 120.0  # seconds; only a fault takes as long


class Reader:
    """Keeps the events it has read, in the order in which they came first."""

    began: Cursor  # where it began to listen, if that is not the beginning

    def __init__(self, who: Remote) -> None:
        self.who = Remote(who.base, who.who)  # sessions are for one thread
        self.to_go = CUTS
        self.seen: dict[str, dict[str, Any]] = {}

    def read(self, path: str) -> None:
        """Until the end."""
        raise NotImplementedError

    def have(self, event: dict[str, Any]) -> None:
        self.seen.setdefault(event["id"], event)

    def is_cut(self, chance: float = 0.3) -> bool:
        cut = self.to_go > 0 and random.random() < chance
        self.to_go -= cut
        return cut

    def seqs(self, task: str) -> list[int]:
        return [event["seq"] for event in self.seen.values() if event["task_id"] == task]


class Streamed(Reader):
    """Server-sent events; goes on from the last label, until there is nothing left."""

    def read(self, path: str) -> None:
        label = None
        while True:
            frames = self.who.stream(path, **({"Last_Event_ID": label} if label else {}))
            if frames.answer.status_code == 204:
                return
            assert frames.answer.status_code == 200, frames.answer.content
            for given, event in frames:
                if given is not None:
                    assert event["id"] not in self.seen
                    label = given
                    self.have(event)
                    if self.is_cut():
                        break
            frames.answer.close()


class Polling(Reader):
    """A list that waits; an answer that is cut is asked for again."""

    def read(self, path: str) -> None:
        after, terminal = "", False
        while not terminal:
            asked = f"{path}?wait=20&limit={random.randint(1, 7)}{after}"
            with self.who.get(asked, stream=True) as answer:
                assert answer.status_code == 200, answer.content
                if self.is_cut():
                    continue
                page = answer.json()
            for event in page["items"]:
                assert event["id"] not in self.seen
                self.have(event)
                after = f"&after={page['last_cursor']}"
            terminal = page["terminal"]


class Connected(Reader):
    """A WebSocket that resumes from the last event it had; what comes twice it drops."""

    cursor: str | None = None

    def read(self, path: str) -> None:
        url, ended = self.who.base.replace("http", "ws") + path, False
        while not ended:
            with connect(url, additional_headers=self.who.who.headers) as raw:
                hello = json.loads(raw.recv(timeout=LONG))
                if self.cursor is None:
                    self.cursor, self.began = hello["cursor"], Cursor.parse(hello["cursor"])
                raw.send(json.dumps({"action": "subscribe", "channels": ["user"]}))
                raw.send(json.dumps({"action": "resume", "cursor": self.cursor}))
                ended = self._listen(raw)
                raw.socket.shutdown(socket.SHUT_RDWR)

    def _listen(self, raw: Any) -> bool:
        """Until it is cut, or until the end. Only what is complete stands for all that came before it."""
        complete, heartbeats, last = False, 0, dict[str, int]()
        while heartbeats < 5:
            message = json.loads(raw.recv(timeout=LONG))
            heartbeats += message["type"] == "heartbeat"
            if message["type"] == "resumed":
                complete, self.cursor = True, message["cursor"]
            if message["type"] == "event" and message["event"]["id"]:
                event = message["event"]
                self.have(event)
                if complete:
                    self.cursor = event["id"]
                    if event["seq"]:
                        assert event["seq"] > last.get(event["task_id"], 0)
                        last[event["task_id"]] = event["seq"]
                if event["type"] == END:
                    return True
                if self.is_cut(0.3 if complete else 0.03):
                    return False
        raise AssertionError("nothing comes any more")


@pytest.fixture
def alice(web):
    sandbox(slots=16)
    return rich(web)


def stir(tasks: list[str], write: Callable[[list[str]], None], enough: Callable[[], bool]) -> None:
    """Small transactions, now and then beside a slow one, and a Redis that forgets everything."""
    for number in itertools.count():
        if enough():
            return
        held, *others = random.sample(tasks, len(tasks))
        if number % 10 == 5:
            with held_open(lambda held=held: write([held])):
                write(others)
                write(others[:1])
        else:
            write([held, *others][: random.randint(1, len(tasks))])
        if number % 20 == 15:
            live().flushdb()


def everything_of(owner: UUID) -> list[Stored]:
    found = events.replay(owner, 0, 0)
    while len(more := events.replay(owner, found[-1].xid, found[-1].id)):
        found += more
    return found


def ids(stored: list[Stored]) -> list[str]:
    return [str(event.cursor) for event in stored]


def test_readers_that_are_cut_a_hundred_times_have_everything_once_and_in_order(alice, web):
    mine, foreign = alice.who.user.account_id, rich(web, "bob").who.user.account_id
    batch = alice.post("/api/v1/batches", task_body(run_at=LATER, items=[{}, {}, {}])).json()
    tasks = [child["id"] for child in batch["tasks"]]
    readers = [Streamed(alice), Streamed(alice), Polling(alice), Connected(alice)]
    paths = [
        f"/api/v1/tasks/{tasks[0]}/events",
        f"/api/v1/batches/{batch['id']}/events",
        f"/api/v1/batches/{batch['id']}/events",
        "/ws/events",
    ]

    def write(chosen: list[str]) -> None:
        apply([Promote(task_id=UUID(task), by="x", rank=0) for task in chosen])
        append([NewEvent(account=foreign, type="test.foreign")])

    with ThreadPoolExecutor(len(readers)) as threads:
        reading = [threads.submit(one.read, path) for one, path in zip(readers, paths, strict=True)]
        stir(
            tasks,
            write,
            lambda: not any(one.to_go for one in readers) or any(done.done() for done in reading),
        )
        apply([Cancel(task_id=UUID(task), by="x") for task in tasks])
        append([NewEvent(account=mine, type=END)])
        for done in reading:
            done.result(LONG)
    one, stream, polled, connected = readers

    stored = everything_of(mine)
    assert sum(CUTS - reader.to_go for reader in readers) == 100
    of_task = [event for event in stored if event.seq and str(event.task_id) == tasks[0]]
    assert list(one.seen) == ids(sorted(of_task, key=lambda event: event.seq or 0))
    of_batch = [event for event in stored if event.seq or event.type.startswith("batch.")]
    assert list(stream.seen) == list(polled.seen) == ids(of_batch)
    since = [event for event in stored if event.xid >= connected.began.floor]
    assert sorted(connected.seen) == sorted(ids(since))
    for task in tasks:
        numbers = [event.seq for event in of_batch if str(event.task_id) == task]
        assert numbers == list(range(1, len(numbers) + 1)) == stream.seqs(task)
