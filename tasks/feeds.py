"""Live feeds for sockets: one for each owner somebody listens to, read once and handed to all in the same order.

A feed reads everything of its owner from the line of the oldest open transaction on and remembers what it has handed
out above that line: events come as soon as they are committed, none twice, none skipped.
"""

import asyncio
import json
from collections import defaultdict
from contextvars import Context
from typing import Any, Protocol
from uuid import UUID

import structlog

from genpulse.events.cursors import LARGEST
from tasks import channels
from tasks.asides import Asides
from tasks.deltas import DeltaReader, Deltas, Piece
from tasks.events import TASK_ENDS, Line, Stored
from tasks.hub import EVERYTHING, Hub, Watch
from tasks.render import text
from tasks.streams import DELTA, delta_event, transient

log = structlog.get_logger(__name__)


class Shown:
    """An event on its way to several readers, serialised once for each kind of them."""

    def __init__(self, kind: str, task: str | None, batch: str | None, event: Any) -> None:
        self.kind, self.task, self.batch = kind, task, batch
        self._event = event
        self._texts: dict[bool, str] = {}

    @property
    def stored(self) -> bool:
        return isinstance(self._event, Stored)

    def text(self, *, admin: bool) -> str:
        if admin not in self._texts:
            event = self._event.shown(admin=admin) if self.stored else self._event
            self._texts[admin] = json.dumps(event, separators=(",", ":"))
        return self._texts[admin]


def of_stored(event: Stored) -> Shown:
    return Shown(event.type, text(event.task_id), text(event.batch_id), event)


class Reader(Protocol):
    """A socket, as a feed sees it."""

    def wants(self, owner: UUID | None, kind: str, task: str | None, batch: str | None) -> bool: ...

    def only(self, owner: UUID | None) -> frozenset[UUID] | None:
        """The tasks and batches of an owner it listens to; None: everything."""

    def named(self, owner: UUID | None) -> tuple[set[UUID], set[UUID]]:
        """The tasks and the batches of an owner that have a channel of their own."""

    def offer(self, owner: UUID | None, event: Shown) -> None: ...


async def join(hub: Hub, owner: UUID | None, reader: Reader) -> None:
    """From the return on, `reader` is offered all that is committed."""
    feed = hub.feeds.get(owner)
    if feed is None:
        feed = hub.feeds[owner] = Feed(hub, owner)
    feed.readers.add(reader)
    await feed.started.wait()


def leave(hub: Hub, owner: UUID | None, reader: Reader) -> None:
    feed = hub.feeds.get(owner)
    if feed is None:
        return
    feed.forget(reader)
    if not feed.readers:
        del hub.feeds[owner]
        feed.running.cancel()


class Feed:
    """See the module."""

    def __init__(self, hub: Hub, owner: UUID | None) -> None:
        self.hub, self.owner = hub, owner
        self.readers: set[Reader] = set()
        self.started = asyncio.Event()
        self.deltas, self.asides = Deltas(hub.redis), Asides(hub)
        self._knocks: dict[str, dict[str, Any]] = {}
        self._told: dict[str, set[Reader]] = defaultdict(set)  # who has all of a task's deltas
        self._floor = LARGEST
        self._seen: set[int] = set()
        self._watch = Watch(EVERYTHING)
        self.running = asyncio.create_task(self._run(), context=Context())

    def forget(self, reader: Reader) -> None:
        self.readers.discard(reader)
        for told in self._told.values():
            told.discard(reader)

    async def _run(self) -> None:
        watch = self._watch
        heard = [channels.stored(self.owner)]
        if self.owner is not None:
            heard.append(channels.passing(self.owner))
        with self.hub.hearing(watch, *heard):
            while True:
                rung, passing = await watch.woken()
                if rung:  # rings for deltas may have been lost
                    passing += [self._knocks[task] for task in self.deltas.readers]
                try:
                    await self._tell(await self._news() if rung else [], passing)
                    if rung:
                        await self._pass_on(await self.asides.news(*self._named()))
                except Exception:
                    log.exception("feed.failed")

    async def _news(self) -> list[Stored]:
        wanted = self._wanted()
        news = await self.hub.owner_events.load(
            Line(owner=self.owner, floor=self._floor, only=wanted)
        )
        if news is None:
            return []
        fresh = [event for event in news.events if event.id not in self._seen]
        if self._wanted() == wanted:
            self._floor = news.floor
        else:  # somebody came meanwhile whose events may have been left out
            self._floor = min(self._floor, news.floor)
            self._watch.ring()
        self._seen = {event.id for event in news.events if event.xid >= self._floor}
        self.started.set()
        return fresh

    def _wanted(self) -> frozenset[UUID] | None:
        """The tasks and batches somebody listens to; None: everything."""
        only = [reader.only(self.owner) for reader in self.readers]
        return None if None in only else frozenset().union(*(ids or () for ids in only))

    def _named(self) -> tuple[set[UUID], set[UUID]]:
        """Tasks and batches with a channel of their own; of others no places are told."""
        named = [reader.named(self.owner) for reader in self.readers]
        return set().union(*(tasks for tasks, _ in named)), set().union(*(b for _, b in named))

    async def _tell(self, found: list[Stored], passing: list[dict[str, Any]]) -> None:
        """What passed by, and the last deltas, come before the end of their task."""
        for event in found:
            if event.type in TASK_ENDS:
                await self._pass_on(passing)
                passing = []
                await self._last_words(event)
            self._offer(of_stored(event))
        await self._pass_on(passing)

    def _offer(self, event: Shown) -> None:
        for reader in list(self.readers):
            reader.offer(self.owner, event)

    async def _pass_on(self, messages: list[dict[str, Any]]) -> None:
        read = set()
        for message in messages:
            task, batch = message["task"], message["batch"]
            if message["type"] != DELTA:
                self._offer(Shown(message["type"], task, batch, transient(message)))
            elif task not in read and self._listeners(task, batch):
                read.add(task)
                self._knocks[task] = message
                pieces = await self.deltas.news(task)
                self._offer_pieces(task, batch, pieces, self.deltas.readers[task])

    def _listeners(self, task: str, batch: str | None) -> list[Reader]:
        return [one for one in self.readers if one.wants(self.owner, DELTA, task, batch)]

    def _offer_pieces(
        self, task: str, batch: str | None, pieces: list[Piece], source: DeltaReader
    ) -> None:
        """Who was not there from the beginning gets everything so far, once."""
        whole = [] if source.said.empty else [source.whole()]
        for reader in self._listeners(task, batch):
            known = reader in self._told[task]
            self._told[task].add(reader)
            for piece in pieces if known else whole:
                reader.offer(self.owner, Shown(DELTA, task, batch, delta_event(task, piece, batch)))

    async def _last_words(self, event: Stored) -> None:
        task, batch = str(event.task_id), text(event.batch_id)
        source = self.deltas.readers.get(task) or DeltaReader(self.hub.redis, task)
        if event.stream and self._listeners(task, batch):
            pieces = await source.rest(event.data.get("output"))
            self._offer_pieces(task, batch, pieces, source)
        self.deltas.readers.pop(task, None)
        self._told.pop(task, None)
        self._knocks.pop(task, None)
