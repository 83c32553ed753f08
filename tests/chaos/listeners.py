"""Clients that listen: to a web process they are cut from again and again (E30), and through a storm (E31)."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import psutil
from django.db import connection
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from genpulse.embedded import free_port
from genpulse.events.bells import live
from genpulse.events.cursors import Cursor
from genpulse.events.log import NewEvent, append
from tasks import events
from tasks.lifecycle import apply
from tasks.moves import Promote
from tests.chaos.rig import Rig, eventually
from tests.integration.cast import Caller
from tests.integration.listeners import is_up

END, STORM = "test.end", "test.storm"
TOO_SLOW = 4409
EACH = 10  # sockets of one account
MOST_MB = 300


class Heard(NamedTuple):
    type: str
    task: str | None
    seq: int | None


class Listener:
    """One socket at a time, resumed from the last event; what comes twice is dropped."""

    def __init__(self, base: str, who: Caller) -> None:
        self.url, self.who = base.replace("http", "ws") + "/ws/events", who
        self.seen: dict[str, Heard] = {}
        self.ended = False
        self.cursor = ""
        self.began: Cursor
        self.connections, self.too_slow = 0, 0
        self.slowness = 0.0  # seconds for each event

    async def run(self, stays: Callable[[], float | None]) -> None:
        """Until the end; each socket for as long as `stays` says."""
        while not self.ended:
            self.connections += 1
            with suppress(TimeoutError):
                async with asyncio.timeout(stays()):
                    await self._connected()

    async def _connected(self) -> None:
        raw = await connect(self.url, additional_headers=self.who.headers, open_timeout=60)
        try:
            hello = json.loads(await raw.recv())
            if not self.cursor:
                self.cursor, self.began = hello["cursor"], Cursor.parse(hello["cursor"])
            await raw.send(json.dumps({"action": "subscribe", "channels": ["user"]}))
            await raw.send(json.dumps({"action": "resume", "cursor": self.cursor}))
            async for text in raw:
                self._hear(json.loads(text))
                if self.ended:
                    return
                await asyncio.sleep(self.slowness)
        except ConnectionClosed as closed:
            if closed.rcvd is not None and closed.rcvd.code != TOO_SLOW:
                raise
            self.too_slow += closed.rcvd is not None
        finally:
            raw.transport.abort()

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] != "event" or message["event"]["id"] is None:
            return
        event = message["event"]
        self.cursor = event["id"]
        self.seen.setdefault(event["id"], Heard(event["type"], event["task_id"], event["seq"]))
        self.ended = self.ended or event["type"] == END

    def faults(self) -> list[str]:
        """What it lacks, has of others, or had in the wrong order."""
        stored = {
            str(event.cursor): event
            for event in everything_of(self.who.user.account_id)
            if event.xid >= self.began.floor
        }
        lacks = [f"lacks {stored[id_].type}" for id_ in stored.keys() - self.seen.keys()]
        foreign = [f"foreign {self.seen[id_].type}" for id_ in self.seen.keys() - stored.keys()]
        return lacks + foreign + self._disorder()

    def _disorder(self) -> list[str]:
        last: dict[str | None, int] = {}
        wrong = []
        for _, task, seq in self.seen.values():
            if seq is not None:
                before = last.get(task, seq - 1)
                last[task] = seq
                if seq != before + 1:
                    wrong.append(f"{seq} after {before}")
        return wrong


def everything_of(owner: UUID) -> list[events.Stored]:
    found = events.replay(owner, 0, 0)
    while more := events.replay(owner, found[-1].xid, found[-1].id):
        found += more
    return found


def cut_again_and_again(rig: Rig) -> None:
    """E30: 200 sockets come and go while Redis forgets; each owner's events arrive whole, in order, and nobody else's."""
    base = web_of(rig)
    owners = [rig.owner() for _ in range(max(rig.some(200) // EACH, 1))]
    tasks = [id_ for who in owners for id_ in waiting_tasks(who)]
    listeners = [Listener(base, owners[n % len(owners)]) for n in range(rig.some(200))]
    calm = asyncio.Event()

    def stays() -> float | None:
        return None if calm.is_set() else rig.random.uniform(0.5, 8)

    async def stir() -> None:
        while not all(one.cursor for one in listeners):  # who comes after the end would wait for it
            await asyncio.sleep(0.1)
        for flush in range(5):
            live().flushdb()
            for _ in range(40):
                await asyncio.to_thread(promote, rig.random.sample(tasks, min(10, len(tasks))))
                await asyncio.sleep(0.05)
            rig.counts["flushed"] = flush + 1
        calm.set()
        await asyncio.to_thread(
            append, [NewEvent(account=who.user.account_id, type=END) for who in owners]
        )

    asyncio.run(together(stir, [lambda one=one: one.run(stays) for one in listeners]))  # type: ignore[misc]
    report(rig, listeners)
    rig.hit("cut", rig.counts["cut"], rig.some(100))
    rig.finish("E30 cut again and again")


def storm(rig: Rig) -> None:
    """E31: 50 000 events as fast as they can be stored; nobody misses one, and the web process stays small."""
    base = web_of(rig)
    owners = [rig.owner() for _ in range(3)]
    listeners = [Listener(base, owners[n % len(owners)]) for n in range(9)]
    for slow in listeners[:3]:
        slow.slowness = 0.001
    web = psutil.Process(rig.stack.processes["web"].pid)
    most = [rss(web)]
    rig.counts["MB before"] = most[0]

    async def blow() -> None:
        await asyncio.sleep(2)
        for start in range(0, rig.some(50_000), 200):
            await asyncio.to_thread(append, stormy(owners, range(start, start + 200)))
            most.append(rss(web))
        await asyncio.to_thread(
            append, [NewEvent(account=who.user.account_id, type=END) for who in owners]
        )

    async def weigh() -> None:
        while True:
            await asyncio.sleep(0.5)
            most.append(rss(web))

    async def all_of_it() -> None:
        weighing = asyncio.create_task(weigh())
        await together(blow, [lambda one=one: one.run(lambda: None) for one in listeners])  # type: ignore[misc]
        weighing.cancel()

    asyncio.run(all_of_it())
    report(rig, listeners)
    rig.counts["MB at most"] = max(most)
    assert max(most) < MOST_MB, most
    rig.hit("events", len(everything_of(owners[0].user.account_id)), rig.some(50_000) // 4)
    rig.finish("E31 storm")


def stormy(owners: Sequence[Caller], numbers: range) -> list[NewEvent]:
    return [
        NewEvent(
            account=owners[n % len(owners)].user.account_id,
            type=STORM,
            data={"n": n, "text": "x" * 200},
        )
        for n in numbers
    ]


async def together(
    write: Callable[[], Awaitable[None]], readers: Sequence[Callable[[], Awaitable[None]]]
) -> None:
    async with asyncio.TaskGroup() as group:
        for number, read in enumerate(readers, 1):
            group.create_task(_awaited(read()))
            if number % 10 == 0:
                await asyncio.sleep(0.1)
        group.create_task(_awaited(write()))


async def _awaited(work: Awaitable[None]) -> None:
    await work


def report(rig: Rig, listeners: Sequence[Listener]) -> None:
    rig.counts["clients"] = len(listeners)
    rig.counts["cut"] = sum(one.connections - 1 for one in listeners)
    rig.counts["too slow"] = sum(one.too_slow for one in listeners)
    rig.counts["heard"] = sum(len(one.seen) for one in listeners)
    faults = [fault for one in listeners for fault in one.faults()]
    connection.close()
    assert not faults, (len(faults), faults[:10], f"seed {rig.seed}")


def web_of(rig: Rig) -> str:
    """The web process; its base URL."""
    base = f"http://127.0.0.1:{rig.stack.environment.setdefault('PORT', str(free_port()))}"
    rig.stack.ensure("web")
    eventually(lambda: is_up(base))
    return base


def waiting_tasks(who: Caller) -> list[str]:
    """Three that nobody else touches."""
    later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    body = {"model": "sandbox-text", "input": {"prompt": "x"}, "run_at": later}
    answers = [who.post("/api/v1/tasks", body) for _ in range(3)]
    return [answer.json()["id"] for answer in answers]


def promote(tasks: Sequence[str]) -> None:
    apply([Promote(task_id=UUID(task), by="x", rank=0) for task in tasks])


def rss(process: psutil.Process) -> int:
    return int(process.memory_info().rss / 1e6)
