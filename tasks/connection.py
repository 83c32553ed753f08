"""What every WebSocket of ours shares: who gets in, one sender, access that may end, and events that were missed."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar
from urllib.parse import parse_qs
from uuid import UUID

import structlog
from channels.consumer import get_handler_name
from channels.generic.websocket import AsyncWebsocketConsumer
from redis.exceptions import RedisError

from genpulse.events import cursors
from genpulse.events.cursors import Cursor
from tasks import channels as names
from tasks import events, feeds, grants
from tasks.events import Stored
from tasks.feeds import Shown
from tasks.grants import Grant
from tasks.hub import hub
from tasks.sockets import MOST_WAITING, Outbox

log = structlog.get_logger(__name__)
MOST_BYTES = 64 << 10
MOST_SOCKETS = 20
NORMAL, REVOKED, TOO_LARGE, TOO_MANY = 1000, 4401, 4413, 4429
T = TypeVar("T")


class Refused(Exception):
    """What a client asked for cannot be had; the socket stays open."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Connection(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels has no types
    """One client. A subclass says how it begins, what it hears, and in which words events are sent."""

    grant: Grant | None = None

    # For subclasses

    async def prepare(self) -> None:
        """Before the client knows that it is connected."""

    async def begin(self) -> None:
        """The handshake is done."""

    async def hear(self, text: str) -> None:
        """The client said something. Raises ValueError for what is no message, Refused."""

    def beat(self, count: int) -> None:
        """Once a second while access is given."""

    def wants(self, owner: UUID | None, kind: str, task: str | None, batch: str | None) -> bool:
        """Whether such events are for this client at all."""
        return True

    def only(self, owner: UUID | None) -> frozenset[UUID] | None:
        """The tasks and batches of an owner that are listened to; None: everything."""
        return None

    def named(self, owner: UUID | None) -> tuple[set[UUID], set[UUID]]:
        return set(), set()

    def item_of(self, owner: UUID | None, event: Shown) -> Any:
        """What waits to be sent for an event; None: nothing."""
        raise NotImplementedError

    async def worded(self, item: Any) -> str | None:
        """The text of what waited; None: nothing is sent after all."""
        return str(item)

    # How it begins and ends

    async def connect(self) -> None:
        """403 before the handshake, a close code after it. A few at a time: when thousands come back at once, those
        who are here go on hearing."""
        async with self.hub.doors:
            await self._connect()

    async def _connect(self) -> None:
        headers = {
            name.decode().lower(): value.decode("latin-1") for name, value in self.scope["headers"]
        }
        grant = await self._granted(headers)  # a ticket that was shown is spent, whoever showed it
        if grant is None or not grants.origin_allowed(headers):
            await self.close()
            return
        if self.hub.sockets[grant.account_id] >= MOST_SOCKETS:
            await self.accept()
            await self.send(bye("too many sockets"))
            await self.close(TOO_MANY)
            return
        self.grant = grant
        self.hub.sockets[grant.account_id] += 1
        await self.prepare()
        await self.accept()
        await self.begin()
        self.start(self._send_forever())
        self.hub.guests.add(self)

    async def dispatch(self, message: dict[str, Any]) -> None:
        """As the base, without its trip to a thread: nothing here has a connection to the database."""
        await getattr(self, get_handler_name(message))(message)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """However it ends, also in the middle of the handshake, nothing of it stays."""
        self.hub, self.outbox = hub(), Outbox()
        self.joined: set[UUID | None] = set()
        self.held: list[tuple[UUID | None, Shown]] | None = None  # while a replay runs
        self.overrun = False  # more came than is held: the replay goes on, from `ahead`
        self.replaying = asyncio.Lock()
        self.beats = 0
        self.tasks: set[asyncio.Task[Any]] = set()
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave_all()

    def _leave_all(self) -> None:
        self.hub.guests.discard(self)
        self.outbox.close(NORMAL, "")
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
        await self.hear(text_data or "")

    async def _send_forever(self) -> None:
        """Nobody else sends, so that nothing follows a close."""
        try:
            while (item := await self.outbox.take()) is not None:
                text = await self.worded(item)
                if text is not None:
                    await self.send(text)
            code, reason = self.outbox.end or (NORMAL, "")
            await self.send(bye(reason))
            await self.close(code)
        except OSError:  # the client has gone; `disconnect` follows
            self.outbox.close(NORMAL, "")

    def look(self, granted: bool | None) -> None:
        """See `tasks.hub.Guest`."""
        if granted is False:
            self.outbox.close(REVOKED, "access ended")
            return
        self.beats += 1
        self.beat(self.beats)

    # What feeds offer

    async def join(self, owner: UUID | None) -> None:
        self.joined.add(owner)
        await feeds.join(self.hub, owner, self)

    def leave(self, owner: UUID | None) -> None:
        self.joined.discard(owner)
        feeds.leave(self.hub, owner, self)

    def offer(self, owner: UUID | None, event: Shown) -> None:
        if self.held is not None and event.stored:
            self.overrun = self.overrun or len(self.held) >= MOST_WAITING
            if not self.overrun:
                self.held.append((owner, event))
            return
        item = self.item_of(owner, event)
        if item is not None:
            self.outbox.put(item, transient=not event.stored)

    # What was missed

    async def hold(self) -> None:
        """From now on live events wait."""
        if self.held is None:
            self.ahead = await self.now()
            self.held = []

    async def hold_back(self, replay: Coroutine[Any, Any, int] | None = None) -> int:
        """Live events wait meanwhile, so that those of one task stay in order; how many were sent."""
        async with self.replaying:
            await self.hold()
            try:
                count = await replay if replay else 0
                while self.overrun:
                    place, self.ahead = self.ahead, await self.now()
                    self.overrun, self.held = False, []
                    count += await self._replay_all(place.xid)
                return count
            finally:
                held, self.held, self.overrun = self.held or [], None, False
                for owner, event in held:
                    self.offer(owner, event)

    async def replay(self, text: str) -> int:
        """Everything after a cursor, of all that was joined; how many were sent. Raises Refused."""
        try:
            cursor = Cursor.parse(text)
        except ValueError:
            raise Refused("bad_message", "This is no cursor.") from None
        if cursor.expired or cursor.floor > (await self.now()).xid:  # of a database since replaced
            raise Refused("cursor_expired", "Events behind this cursor are not kept any more.")
        return await self._replay_all(cursor.floor)

    async def _replay_all(self, floor: int) -> int:
        return sum([await self._replay_owner(owner, floor) for owner in list(self.joined)])

    async def _replay_owner(self, owner: UUID | None, floor: int) -> int:
        place, count = (floor, 0), 0
        while True:
            found = await self.ask(lambda at=place: events.replay(owner, *at))  # type: ignore[misc]
            count += await self.send_stored(owner, found)
            if len(found) < events.MOST or self.outbox.end:
                return count
            place = (found[-1].xid, found[-1].id)

    async def send_stored(self, owner: UUID | None, found: list[Stored]) -> int:
        """How many of them are for this client."""
        count = 0
        for event in found:
            item = self.item_of(owner, feeds.of_stored(event))
            if item is not None:
                count += 1
                await self.outbox.room()
                self.outbox.put(item)
        return count

    # Odds and ends

    @property
    def given(self) -> Grant:
        assert self.grant is not None  # noqa: S101 - nothing runs before the handshake
        return self.grant

    @property
    def query(self) -> dict[str, str]:
        """The first value of each name."""
        found = parse_qs(self.scope["query_string"].decode("latin-1"))
        return {name: values[0] for name, values in found.items()}

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def now(self) -> Cursor:
        return await self.ask(cursors.now)

    async def ask(self, question: Callable[[], T]) -> T:
        """Of the database, which is waited for when it is away."""
        while True:
            answer = await self.hub.threads.ask(lambda: (question(),))
            if answer is not None:
                return answer[0]
            await asyncio.sleep(1)

    def say(self, kind: str, **members: Any) -> None:
        self.outbox.put(json.dumps({"type": kind, **members}))

    async def _granted(self, headers: dict[str, str]) -> Grant | None:
        if "ticket" in self.query:
            given = await self._redeemed(self.query["ticket"])
        else:
            address = (self.scope.get("client") or ("",))[0]
            given = await self.ask(lambda: grants.authenticated(headers, address))
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


def bye(reason: str) -> str:
    return json.dumps({"type": "bye", "reason": reason})


class NoSocket(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Any other path: refused before the handshake."""

    async def connect(self) -> None:
        await self.close()
