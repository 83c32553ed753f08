"""P6: a thousand WebSocket clients, 200 events a second spread over their owners.

An event carries the time just before its commit; every socket of its owner notes how late it came. Meanwhile a tenth
of the sockets is cut and resumes; at the end each must have every event of its owner. The baseline is one pipelined
PUBLISH for each event, heard by as many plain subscribers of Redis.
"""

import argparse
import asyncio
import json
import os
import random
import time
from collections import defaultdict
from contextlib import suppress
from typing import Any
from uuid import UUID

import uvloop
from redis.asyncio import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from benchmarks import cast
from benchmarks.ground import Ground
from benchmarks.report import percentile, report

EACH = 10  # sockets of one owner
TICK = 0.05
KIND = "bench.event"


class Listener:
    """One socket; `cut` makes it go and come back."""

    def __init__(self, base: str, key: str, owner: UUID) -> None:
        self.url = base.replace("http", "ws") + "/ws/events"
        self.headers, self.owner = cast.headers(key), owner
        self.seen: set[str] = set()
        self.late: list[float] = []
        self.cursor: str | None = None
        self.ready = asyncio.Event()
        self.socket: Any = None
        self.live_from = ""

    async def run(self) -> None:
        while True:
            async with connect(self.url, additional_headers=self.headers) as self.socket:
                await self._say(action="subscribe", channels=["user"], events=[KIND])
                self.live_from = "resumed" if self.cursor else "subscribed"
                if self.cursor:
                    await self._say(action="resume", cursor=self.cursor)
                with suppress(ConnectionClosed):
                    async for text in self.socket:
                        self._hear(json.loads(text))

    async def _say(self, **message: Any) -> None:
        await self.socket.send(json.dumps(message))

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == self.live_from:
            self.ready.set()
        elif message["type"] == "hello" and self.cursor is None:
            self.cursor = message["cursor"]
        elif message["type"] == "event" and message["event"]["id"] not in self.seen:
            event = message["event"]
            self.seen.add(event["id"])
            self.cursor = event["id"]
            if self.ready.is_set():  # what a resume brings is late by its nature
                self.late.append(time.time() - event["data"]["at"])

    async def cut(self) -> None:
        self.ready.clear()
        self.socket.transport.abort()
        await self.ready.wait()


def append(owners: list[UUID]) -> None:
    """One event for each of them, in one transaction."""
    from django.db import transaction

    from genpulse.events import log

    with transaction.atomic():
        at = {"at": time.time()}
        log.append([log.NewEvent(account=owner, type=KIND, data=at) for owner in owners])


async def paced(seconds: float, per_second: int, send: Any) -> None:
    """`send(count)` often enough."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for number in range(int(seconds / TICK)):
        await asyncio.sleep(max(0.0, began + number * TICK - loop.time()))
        await send(round(per_second * TICK))


async def ours(base: str, keys: dict[UUID, str], options: argparse.Namespace) -> list[Listener]:
    owners = list(keys)
    people = [
        Listener(base, keys[owners[n // EACH]], owners[n // EACH]) for n in range(options.clients)
    ]
    running = []
    for number, one in enumerate(people):
        running.append(asyncio.create_task(one.run()))
        if number % 50 == 49:
            await asyncio.gather(*(known.ready.wait() for known in people[: number + 1]))

    async def send(count: int) -> None:
        await asyncio.to_thread(append, random.choices(owners, k=count))

    await asyncio.gather(*(one.ready.wait() for one in people))
    sending = asyncio.create_task(paced(options.seconds, options.events, send))
    await asyncio.sleep(options.seconds / 2)
    await asyncio.gather(*(one.cut() for one in random.sample(people, len(people) // 10)))
    await sending
    await asyncio.sleep(3)
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)
    return people


async def baseline(owners: list[UUID], options: argparse.Namespace) -> list[float]:
    """Seconds from PUBLISH to each plain subscriber."""
    late: list[float] = []
    address = os.environ["REDIS_LIVE_URL"].split("@")[-1].split("//")[-1].split("/")[0]
    host, _, port = address.partition(":")
    greeting = _hello(os.environ["REDIS_LIVE_URL"])

    async def hear(channel: str) -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"{greeting}SUBSCRIBE {channel}\r\n".encode())
        while line := await reader.readline():
            if line.startswith(b"at:"):
                late.append(time.time() - float(line[3:]))

    hearing = [
        asyncio.create_task(hear(f"bench:{owners[n // EACH]}")) for n in range(options.clients)
    ]
    await asyncio.sleep(2)
    client = Redis.from_url(os.environ["REDIS_LIVE_URL"])

    async def send(count: int) -> None:
        pipe = client.pipeline(transaction=False)
        for owner in random.choices(owners, k=count):
            pipe.publish(f"bench:{owner}", f"at:{time.time()}")
        await pipe.execute()

    await paced(options.seconds, options.events, send)
    await asyncio.sleep(1)
    for task in hearing:
        task.cancel()
    await asyncio.gather(*hearing, return_exceptions=True)
    await client.aclose()
    return late


def _hello(url: str) -> str:
    """What a plain connection says first where a password is wanted."""
    before = url.split("//", 1)[1].rpartition("@")[0]
    password = before.partition(":")[2]
    return f"AUTH {password}\r\n" if password else ""


def missing(people: list[Listener], began: float) -> int:
    """Events of an owner since `began` that a socket of his never had."""
    from tasks.events import replay

    of_owner: dict[UUID, set[str]] = defaultdict(set)
    for owner in {one.owner for one in people}:
        place = (0, 0)
        while found := replay(owner, *place):
            of_owner[owner] |= {
                str(event.cursor)
                for event in found
                if event.type == KIND and event.data["at"] >= began
            }
            place = (found[-1].xid, found[-1].id)
    assert of_owner
    return sum(len(of_owner[one.owner] - one.seen) for one in people)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--events", type=int, default=200, help="a second")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--runs", type=int, default=2)
    options = parser.parse_args()
    with Ground() as ground:
        from genpulse.auth.models import Account

        names = [f"tenant-{n}" for n in range(-(-options.clients // EACH))]
        texts = {name: cast.key_of(name, "tasks") for name in names}
        keys = {one.id: texts[one.name] for one in Account.objects.filter(name__in=names)}
        mine, plain, lost = [], [], 0
        with ground.processes("web"):
            for _ in range(options.runs):
                began = time.time()
                people = uvloop.run(ours(ground.base, keys, options))
                lost += missing(people, began)
                mine.append(percentile((late for one in people for late in one.late), 99) * 1000)
                late = uvloop.run(baseline(list(keys), options))
                plain.append(percentile(late, 99) * 1000)
        count = {"clients": options.clients, "events_a_second": options.events}
        report("P6 delivery p99", "ms", mine, plain, **count, lost_after_resume=lost)


if __name__ == "__main__":
    main()
