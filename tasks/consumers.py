"""`/ws/events`: live events over a WebSocket."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import parse_qs
from uuid import UUID

import structlog
from channels.generic.websocket import AsyncWebsocketConsumer
from pydantic import BaseModel, ValidationError
from redis.exceptions import RedisError

from genpulse.events import cursors
from genpulse.events.cursors import Cursor
from genpulse.http.parsing import render_time
from genpulse.ids import parse_id
from tasks import channels as names
from tasks import events, feeds, grants
from tasks.events import Stored
from tasks.feeds import Shown
from tasks.grants import Grant
from tasks.hub import EVERYTHING, Watch, hub
from tasks.sockets import (
    MOST_CHANNELS,
    Outbox,
    Ping,
    Resume,
    Subscribe,
    Subscriptions,
    Unsubscribe,
    event_message,
    found_channels,
)

log = structlog.get_logger(__name__)
HEARTBEAT = 20
QUEUES_EVERY = 2
MOST_BYTES = 64 << 10
MOST_SOCKETS = 20
NORMAL, REVOKED, TOO_LARGE, TOO_MANY = 1000, 4401, 4413, 4429
ACTIONS: dict[str, type[BaseModel]] = {
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "resume": Resume,
    "ping": Ping,
}
T = TypeVar("T")


class Refused(Exception):
    """What a client asked for cannot be had; the socket stays open."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class EventSocket(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One client. Nothing is sent before a subscribe but hello and heartbeats."""

    grant: Grant | None = None

    async def connect(self) -> None:
        """403 before the handshake, a close code after it."""
        self.hub = hub()
        self.subscriptions, self.outbox = Subscriptions(), Outbox()
        self.joined: set[UUID | None] = set()
        self.held: list[tuple[UUID | None, Shown]] | None = None  # while a resume runs
        self.tasks: list[asyncio.Task[None]] = []
        headers = {
            name.decode().lower(): value.decode("latin-1") for name, value in self.scope["headers"]
        }
        grant = await self._granted(headers)  # a ticket that was shown is spent, whoever showed it
        if grant is None or not grants.origin_allowed(headers):
            await self.close()
            return
        await self.accept()
        if self.hub.sockets[grant.account_id] >= MOST_SOCKETS:
            await self.close(TOO_MANY)
            return
        self.grant = grant
        self.hub.sockets[grant.account_id] += 1
        cursor = await self._ask(cursors.now)
        self._say("hello", user=grant.name, cursor=str(cursor), heartbeat=HEARTBEAT)
        self._start(self._send_forever())
        self._start(self._beat_forever())

    async def disconnect(self, code: int) -> None:
        for task in self.tasks:
            task.cancel()
        for owner in self.joined:
            feeds.leave(self.hub, owner, self)
        if self.grant is not None:
            self.hub.sockets[self.grant.account_id] -= 1

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if len(bytes_data or b"") > MOST_BYTES or len((text_data or "").encode()) > MOST_BYTES:
            self.outbox.close(TOO_LARGE, "message too large")
            return
        given: Any = None
        try:
            given = json.loads(text_data or "")
            await self._act(read(given))
        except (ValueError, RecursionError):
            self._error("bad_message", "This is no message of this protocol.", given)
        except Refused as refused:
            self._error(refused.code, str(refused), given)

    async def _act(self, message: BaseModel) -> None:
        if isinstance(message, Subscribe):
            await self._subscribe(message)
        elif isinstance(message, Unsubscribe):
            self._unsubscribe(message)
        elif isinstance(message, Resume):
            await self._resume(message)
        else:
            self._say("pong", at=render_time(datetime.now(UTC)))

    # What clients ask for

    async def _subscribe(self, message: Subscribe) -> None:
        wanted = {*self.subscriptions.channels, *message.channels}
        if len(wanted) > MOST_CHANNELS:
            raise Refused("too_many_channels", f"At most {MOST_CHANNELS} channels.")
        found = await self._ask(lambda: found_channels(self._grant, message.channels))
        if found is None:
            raise Refused("not_found", "No such channel.")
        self.subscriptions.add(found, message.events)
        for owner in self.subscriptions.owners - self.joined:
            self.joined.add(owner)
            await feeds.join(self.hub, owner, self)
        self._say("subscribed", id=message.id, channels=[channel.name for channel in found])

    def _unsubscribe(self, message: Unsubscribe) -> None:
        for name in message.channels:
            self.subscriptions.channels.pop(name, None)
        for owner in self.joined - self.subscriptions.owners:
            self.joined.discard(owner)
            feeds.leave(self.hub, owner, self)
        self._say("unsubscribed", id=message.id, channels=message.channels)

    async def _resume(self, message: Resume) -> None:
        """Live events are held back meanwhile, so that those of one task stay in order."""
        if (message.cursor is None) == (message.tasks is None):
            raise Refused("bad_message", "Give a cursor or tasks.")
        # Taken first: what commits during the replay comes again after a resume from here.
        cursor = await self._ask(cursors.now)
        self.held = []
        try:
            if message.cursor is not None:
                count = await self._replay(message.cursor)
            else:
                count = await self._replay_tasks(message.tasks or {})
        finally:
            held, self.held = self.held, None
            for owner, event in held:
                self.offer(owner, event)
        self._say("resumed", id=message.id, cursor=str(cursor), replayed=count)

    async def _replay(self, text: str) -> int:
        try:
            cursor = Cursor.parse(text)
        except ValueError:
            raise Refused("bad_message", "This is no cursor.") from None
        if cursor.expired:
            raise Refused("cursor_expired", "Events behind this cursor are not kept any more.")
        return sum([await self._replay_owner(owner, cursor.floor) for owner in self.joined])

    async def _replay_owner(self, owner: UUID | None, floor: int) -> int:
        place, count = (floor, 0), 0
        while True:
            found = await self._ask(lambda at=place: events.replay(owner, *at))  # type: ignore[misc]
            count += await self._send_stored(owner, found)
            if len(found) < events.MOST:
                return count
            place = (found[-1].xid, found[-1].id)

    async def _replay_tasks(self, tasks: dict[str, int]) -> int:
        ids = {id_: seq for text, seq in tasks.items() if (id_ := parse_id(text)) and seq >= 0}
        now = await self._ask(lambda: events.tasks_now(ids))
        if len(now) < len(tasks) or not all(
            self._grant.sees(one.account_id) for one in now.values()
        ):
            raise Refused("not_found", "No such task.")
        return sum([await self._replay_task(id_, seq, now[id_]) for id_, seq in ids.items()])

    async def _replay_task(self, id_: UUID, after: int, now: events.Now) -> int:
        count = 0
        while True:
            key = (id_, after)
            found = (await self._ask(lambda key=key: events.of_tasks([key])))[key]  # type: ignore[misc]
            if (found[0].seq if found else after + 1) != after + 1 or (
                not found and now.seq > after
            ):
                raise Refused("cursor_expired", "Events behind this place are not kept any more.")
            count += await self._send_stored(now.account_id, found)
            if len(found) < events.MOST:
                return count
            after = found[-1].seq or after

    async def _send_stored(self, owner: UUID | None, found: list[Stored]) -> int:
        """How many of them belong to what is subscribed."""
        count = 0
        for event in found:
            shown = feeds.of_stored(event)
            channel = self.subscriptions.match(owner, shown.kind, shown.task, shown.batch)
            if channel is not None:
                count += 1
                await self.outbox.room()
                self.outbox.put(event_message(channel, shown, admin=self._grant.admin))
        return count

    # What feeds offer

    def wants(self, owner: UUID | None, kind: str, task: str | None, batch: str | None) -> bool:
        return self.subscriptions.match(owner, kind, task, batch) is not None

    def only(self, owner: UUID | None) -> frozenset[UUID] | None:
        return self.subscriptions.only(owner)

    def offer(self, owner: UUID | None, event: Shown) -> None:
        if self.held is not None and event.stored:
            self.held.append((owner, event))
            return
        channel = self.subscriptions.match(owner, event.kind, event.task, event.batch)
        if channel is not None:
            message = event_message(channel, event, admin=self._grant.admin)
            self.outbox.put(message, transient=not event.stored)

    # What goes on by itself

    async def _send_forever(self) -> None:
        """Nobody else sends, so that nothing follows a close."""
        try:
            while (message := await self.outbox.take()) is not None:
                await self.send(message)
            code, reason = self.outbox.end or (NORMAL, "")
            await self.send(json.dumps({"type": "bye", "reason": reason}))
            await self.close(code)
        except OSError:  # the client has gone; `disconnect` follows
            self.outbox.close(NORMAL, "")

    async def _beat_forever(self) -> None:
        """Every second: is access still given? Then heartbeats, and what queues look like."""
        watch, beats = Watch(EVERYTHING), 0
        with self.hub.hearing(watch, names.IDLE):
            while True:
                await watch.woken()
                if await self.hub.access.load(self._grant) is False:
                    self.outbox.close(REVOKED, "access ended")
                    return
                beats += 1
                if beats % HEARTBEAT == 0:
                    self._say("heartbeat")
                if beats % QUEUES_EVERY == 0:
                    for family in self.subscriptions.families:
                        queue = await self.hub.queues.load(family)
                        self._say("queue", channel=f"queue:{family}", queue=queue)

    # Odds and ends

    @property
    def _grant(self) -> Grant:
        assert self.grant is not None  # noqa: S101 - nothing runs before the handshake
        return self.grant

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(work))

    async def _ask(self, question: Callable[[], T]) -> T:
        """Of the database, which is waited for when it is away."""
        while True:
            answer = await self.hub.threads.ask(lambda: (question(),))
            if answer is not None:
                return answer[0]
            await asyncio.sleep(1)

    def _say(self, kind: str, **members: Any) -> None:
        self.outbox.put(json.dumps({"type": kind, **members}))

    def _error(self, code: str, message: str, given: Any) -> None:
        id_ = given.get("id") if isinstance(given, dict) else None
        known = id_ if isinstance(id_, (str, int)) else None
        self._say("error", code=code, message=message, id=known)

    async def _granted(self, headers: dict[str, str]) -> Grant | None:
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        if "ticket" in query:
            given = await self._redeemed(query["ticket"][0])
        else:
            address = (self.scope.get("client") or ("",))[0]
            given = await self._ask(lambda: grants.authenticated(headers, address))
        if given is None or not await self.hub.access.load(given):
            return None
        return given

    async def _redeemed(self, ticket: str) -> Grant | None:
        """A ticket is good for one socket."""
        try:
            kept = await self.hub.redis.getdel(names.ticket(ticket))
        except (RedisError, OSError) as error:
            log.warning("ticket.unreadable", error=type(error).__name__)
            return None
        return grants.read(kept) if kept else None


def read(given: Any) -> BaseModel:
    """A client's message. Raises ValueError."""
    if not isinstance(given, dict) or given.get("action") not in ACTIONS:
        raise ValueError("unknown action")
    try:
        return ACTIONS[given["action"]].model_validate(given)
    except ValidationError as error:
        raise ValueError("not as this action wants it") from error


class NoSocket(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Any other path: refused before the handshake."""

    async def connect(self) -> None:
        await self.close()
