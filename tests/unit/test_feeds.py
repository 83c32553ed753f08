"""What a feed hands to readers that come and go while it reads."""

import asyncio
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

from tasks import feeds
from tasks.events import Line, News, Stored
from tasks.hub import Watch

OWNER = uuid4()
NOW = datetime(2026, 11, 22, tzinfo=UTC)


class Table:
    """Stands for the events of the owner; a read takes as long as the test wants."""

    def __init__(self) -> None:
        self.rows: list[Stored] = []
        self.asked: asyncio.Queue[Line] = asyncio.Queue()
        self.go_on = asyncio.Semaphore(0)

    async def load(self, line: Line) -> News:
        mine = [row for row in self.rows if row.xid >= line.floor]
        wanted = [row for row in mine if line.only is None or row.task_id in line.only]
        self.asked.put_nowait(line)
        await self.go_on.acquire()
        return News(events=wanted, floor=max((row.xid for row in self.rows), default=0) + 1)

    def store(self, task: UUID) -> None:
        number = len(self.rows) + 1
        self.rows.append(
            Stored(
                id=number,
                xid=number,
                floor=number,
                type="task.promoted",
                data={},
                at=NOW,
                task_id=task,
                batch_id=None,
                seq=number,
            )
        )


class Reader:
    """Listens to one task."""

    def __init__(self, task: UUID) -> None:
        self.task, self.had = task, list[str]()

    def wants(self, owner: UUID | None, kind: str, task: str | None, batch: str | None) -> bool:
        return task == str(self.task)

    def only(self, owner: UUID | None) -> frozenset[UUID]:
        return frozenset({self.task})

    def named(self, owner: UUID | None) -> tuple[set[UUID], set[UUID]]:
        return set(), set()

    def offer(self, owner: UUID | None, event: feeds.Shown) -> None:
        if event.task == str(self.task):
            self.had.append(event.kind)


def test_who_comes_while_others_are_read_for_misses_nothing():
    async def story() -> list[str]:
        table, watching = Table(), list[Watch]()

        def hearing(watch: Watch, *_: str) -> AbstractContextManager[None]:
            watching.append(watch)
            return nullcontext()

        loop = asyncio.get_running_loop()
        hub: Any = SimpleNamespace(
            feeds={}, redis=None, loop=loop, owner_events=table, hearing=hearing
        )
        table.go_on.release()
        first, second = Reader(uuid4()), Reader(uuid4())
        await feeds.join(hub, OWNER, first)
        await table.asked.get()
        watching[0].ring()
        await table.asked.get()  # it reads, for the first
        await feeds.join(hub, OWNER, second)
        table.store(second.task)
        for _ in range(2):
            table.go_on.release()
        await table.asked.get()
        while not second.had:
            await asyncio.sleep(0)
        feeds.leave(hub, OWNER, first)
        feeds.leave(hub, OWNER, second)
        return second.had

    assert asyncio.run(asyncio.wait_for(story(), 30)) == ["task.promoted"]
