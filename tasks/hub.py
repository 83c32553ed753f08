"""One hub for each web process: it hears the bells and reads for everybody who listens or waits.

A bell only wakes: what happened is read from PostgreSQL, every 10 ms at most, in one query for all who asked
meanwhile. Once a second everybody is woken, so that a bell that was lost, or a Redis that is away, costs a second
and nothing else. Readers hold neither a thread nor a connection.
"""

import asyncio
import json
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from uuid import UUID

import structlog
from django.db import Error as DatabaseError
from django.db import connection
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from genpulse.config import config
from tasks import asides, channels, events, grants, queues

if TYPE_CHECKING:
    from tasks.feeds import Feed

log = structlog.get_logger(__name__)
WINDOW = 0.01
TICK = 1.0
REDIS_PAUSE = 0.5
KEPT_OPEN = 60.0  # seconds an unused connection to the database is trusted
ANSWERED_IN = 1.0  # seconds other web processes have to say that they wait for a task
DOORS = 4
ASKS = "asks"
EVERYTHING = ""  # the topic of those who want all bells of a channel
K = TypeVar("K")
V = TypeVar("V")


class Guest(Protocol):
    """Somebody who is connected for long."""

    @property
    def given(self) -> grants.Grant: ...

    def look(self, granted: bool | None) -> None:
        """Once a second. False: access has ended; None: the database cannot be asked now."""


class Listener(Protocol):
    """Whoever is woken. Called in the event loop; must not block."""

    topic: str  # a task's id, or EVERYTHING

    def ring(self) -> None:
        """Something was stored: read on."""

    def say(self, message: dict[str, Any]) -> None:
        """Something passed by that is not stored."""


class Watch:
    """A listener with an ear for one topic, and for one batch when `batch` is given."""

    def __init__(self, topic: str, batch: str | None = None) -> None:
        self.topic, self.batch = topic, batch
        self.rung = True  # whoever begins to watch looks first
        self.passing: deque[dict[str, Any]] = deque(maxlen=200)
        self._woken = asyncio.Event()
        self._woken.set()

    def ring(self) -> None:
        self.rung = True
        self._woken.set()

    def say(self, message: dict[str, Any]) -> None:
        if self.batch is None or message.get("batch") == self.batch:
            self.passing.append(message)
            self._woken.set()

    async def woken(self) -> tuple[bool, list[dict[str, Any]]]:
        """Waits; then whether something was stored, and what passed by."""
        await self._woken.wait()
        self._woken.clear()
        rung, self.rung = self.rung, False
        passing = list(self.passing)
        self.passing.clear()
        return rung, passing


class Threads:
    """The few threads in which a hub asks the database."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="hub")
        self._used = threading.local()

    async def ask(self, question: Callable[[], V]) -> V | None:
        """Its answer; None when the database cannot be asked now."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._pool, self._answer, question)

    def _answer(self, question: Callable[[], V]) -> V | None:
        """Each thread keeps its connection while it is asked again and again."""
        if time.monotonic() - getattr(self._used, "at", 0) > KEPT_OPEN:
            connection.close()
        try:
            return question()
        except DatabaseError as error:
            log.warning("hub.database", error=type(error).__name__)
            connection.close()
            return None
        finally:
            self._used.at = time.monotonic()


class Loader(Generic[K, V]):
    """Many `load(key)` become one call of `read(keys)`: the first at once, then one every 10 ms."""

    def __init__(self, read: Callable[[Collection[K]], Mapping[K, V]], threads: Threads) -> None:
        self._read, self._threads = read, threads
        self._asked: dict[K, list[asyncio.Future[V | None]]] = defaultdict(list)
        self._next = 0.0
        self._running: set[asyncio.Task[None]] = set()

    async def load(self, key: K) -> V | None:
        """None: there is no such thing, or the database cannot be asked now."""
        if not self._asked:
            task = asyncio.create_task(self._soon(), context=Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        answer: asyncio.Future[V | None] = asyncio.get_running_loop().create_future()
        self._asked[key].append(answer)
        return await answer

    async def _soon(self) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(self._next - loop.time(), 0))
        self._next = loop.time() + WINDOW
        asked, self._asked = self._asked, defaultdict(list)
        found: Mapping[K, V] = {}
        try:
            found = await self._threads.ask(lambda: self._read(asked.keys())) or {}
        except Exception:
            log.exception("hub.unread")
        for key, answers in asked.items():
            for answer in answers:
                if not answer.done():  # its reader may have gone
                    answer.set_result(found.get(key))


def queues_now(families: Collection[str]) -> dict[str, Any]:
    """The queue objects of operators, by family."""
    return {family: queues.show(family)[0] for family in families}


class Hub:
    """Belongs to one event loop; `hub()` makes it when it is first needed."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.redis: Redis = Redis.from_url(
            config.redis_live_url, socket_timeout=2, socket_connect_timeout=1
        )
        threads = self.threads = Threads()
        self.tasks = Loader(events.tasks_now, threads)
        self.batches = Loader(events.batches_now, threads)
        self.task_events = Loader(events.of_tasks, threads)
        self.batch_events = Loader(events.of_batches, threads)
        self.owner_events = Loader(events.of_owners, threads)
        self.access = Loader(grants.in_force, threads)
        self.queues = Loader(queues_now, threads)
        self.places = Loader(asides.places, threads)
        self.progress = Loader(asides.progress, threads)
        self.feeds: dict[UUID | None, Feed] = {}
        self.sockets: Counter[UUID] = Counter()  # by the account they show
        self.guests: set[Guest] = set()
        self.doors = asyncio.Semaphore(DOORS)  # for sockets that come
        self._heard: dict[str, dict[str, set[Listener]]] = {channels.IDLE: {}}
        self._changed = asyncio.Event()
        self._running = [
            asyncio.create_task(run(), context=Context())
            for run in (self._tick_forever, self._look_forever, self._listen_forever)
        ]

    @contextmanager
    def hearing(self, listener: Listener, *channels: str) -> Iterator[None]:
        """Within the block `listener` is woken: by bells on `channels`, and every second."""
        for channel in channels:
            topics = self._heard.setdefault(channel, {})
            topics.setdefault(listener.topic, set()).add(listener)
        self._changed.set()
        try:
            yield
        finally:
            for channel in channels:
                self._leave(channel, listener)

    def _leave(self, channel: str, listener: Listener) -> None:
        topics = self._heard[channel]
        topics[listener.topic].discard(listener)
        if not topics[listener.topic]:
            del topics[listener.topic]
        if not topics and channel != channels.IDLE:
            del self._heard[channel]
            self._changed.set()

    def listeners(self, channel: str | None = None) -> set[Listener]:
        """Those of one channel, or all."""
        heard = self._heard.values() if channel is None else [self._heard.get(channel, {})]
        return {one for topics in heard for found in topics.values() for one in found}

    async def waited_for(self, task: UUID, account: UUID) -> bool:
        """Whether anybody watches or waits for this very task of `account`, at this or another web process."""
        channel, answer = channels.stored(account), channels.answer()
        if self._heard.get(channel, {}).get(str(task)):
            return True
        question = json.dumps({ASKS: str(task), "answer": answer})
        try:
            if not await self.redis.publish(channel, question):
                return False
            await asyncio.sleep(ANSWERED_IN)
            return bool(await self.redis.exists(answer))
        except (RedisError, OSError) as error:
            log.warning("hub.redis", error=type(error).__name__)
            return False

    async def _answer(self, channel: str, question: dict[str, Any]) -> None:
        if self._heard.get(channel, {}).get(question[ASKS]):
            await self.redis.set(question["answer"], 1, ex=10)

    async def _tick_forever(self) -> None:
        while True:
            await asyncio.sleep(TICK)
            for listener in self.listeners():
                listener.ring()

    async def _look_forever(self) -> None:
        """One question for all who are connected, and no task for each of them."""
        while True:
            await asyncio.sleep(TICK)
            if not self.guests:
                continue
            asked = {guest.given for guest in self.guests}
            try:
                granted = await self.threads.ask(partial(grants.in_force, asked)) or {}
                for guest in list(self.guests):
                    guest.look(granted.get(guest.given))
            except Exception:
                log.exception("hub.blind")

    async def _listen_forever(self) -> None:
        while True:
            try:
                async with self.redis.pubsub() as pubsub:
                    await pubsub.subscribe(channels.IDLE)
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._subscribe_forever(pubsub))
                        group.create_task(self._hear_forever(pubsub))
            except* (RedisError, OSError) as errors:
                log.warning("hub.redis", error=type(errors.exceptions[0]).__name__)
            except* Exception:
                log.exception("hub.deaf")
            await asyncio.sleep(REDIS_PAUSE)

    async def _subscribe_forever(self, pubsub: PubSub) -> None:
        known = {channels.IDLE}
        while True:
            wanted = set(self._heard)
            if wanted - known:
                await pubsub.subscribe(*(wanted - known))
            if known - wanted:
                await pubsub.unsubscribe(*(known - wanted))
            known = wanted
            await self._changed.wait()
            self._changed.clear()

    async def _hear_forever(self, pubsub: PubSub) -> None:
        while True:
            message = await pubsub.get_message(timeout=10)
            if message is None:
                continue
            channel = message["channel"].decode()
            if message["type"] == "subscribe":  # what was rung before this was not heard
                for listener in self.listeners(channel):
                    listener.ring()
            elif message["type"] == "message":
                said = json.loads(message["data"])
                if isinstance(said, dict) and ASKS in said:
                    await self._answer(channel, said)
                else:
                    self._pass_on(self._heard.get(channel, {}), said)

    @staticmethod
    def _pass_on(topics: Mapping[str, set[Listener]], message: Any) -> None:
        """A list is a bell: [[task, seq], ...]; an object is something that is not stored."""
        if isinstance(message, list):
            for topic in {EVERYTHING, *(task for task, _ in message)}:
                for listener in topics.get(topic, ()):
                    listener.ring()
            return
        for topic in {EVERYTHING, message.get("task", EVERYTHING)}:
            for listener in topics.get(topic, ()):
                listener.say(message)


def open_sockets() -> int:
    """WebSockets this process has open now."""
    return sum(_hub.sockets.values()) if _hub else 0


_hub: Hub | None = None


def hub() -> Hub:
    """The hub of the running event loop."""
    global _hub  # noqa: PLW0603 - one for a process; tests run several servers
    if _hub is None or _hub.loop is not asyncio.get_running_loop():
        _hub = Hub()
    return _hub
