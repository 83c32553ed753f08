"""`/ws/events`: live events over a WebSocket."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ValidationError

from genpulse.http.parsing import render_time
from genpulse.ids import parse_id
from tasks import events
from tasks.connection import Connection, Refused
from tasks.feeds import Shown
from tasks.sockets import (
    MOST_CHANNELS,
    Ping,
    Resume,
    Subscribe,
    Subscriptions,
    Unsubscribe,
    event_message,
    found_channels,
)

HEARTBEAT = 20
RESUMED_IN = 0.2  # seconds a client that has just subscribed has to say what it missed
STEPS = 10
QUEUES_EVERY = 2
ACTIONS: dict[str, type[BaseModel]] = {
    "subscribe": Subscribe,
    "unsubscribe": Unsubscribe,
    "resume": Resume,
    "ping": Ping,
}


class EventSocket(Connection):
    """Nothing is sent before a subscribe but hello and heartbeats."""

    async def begin(self) -> None:
        self.subscriptions = Subscriptions()
        self.pause: asyncio.Task[None] | None = None
        cursor = await self.now()
        self.say("hello", user=self.given.name, cursor=str(cursor), heartbeat=HEARTBEAT)

    async def hear(self, text: str) -> None:
        if self.pause is not None:
            self.pause.cancel()
        await self._hear(text)
        if self.held is not None:
            self.pause = self.start(self._go_on())

    async def _hear(self, text: str) -> None:
        given: Any = None
        try:
            given = json.loads(text)
            await self._act(read(given))
        except (ValueError, RecursionError):
            self._error("bad_message", "This is no message of this protocol.", given)
        except Refused as refused:
            self._error(refused.code, str(refused), given)

    def beat(self, count: int) -> None:
        """Heartbeats, and what queues look like."""
        if count % HEARTBEAT == 0:
            self.say("heartbeat")
        if count % QUEUES_EVERY == 0 and self.subscriptions.families:
            self.start(self._tell_queues())

    async def _tell_queues(self) -> None:
        for family in self.subscriptions.families:
            queue = await self.hub.queues.load(family)
            self.say("queue", channel=f"queue:{family}", queue=queue)

    async def _act(self, message: BaseModel) -> None:
        if isinstance(message, Subscribe):
            await self._subscribe(message)
        elif isinstance(message, Unsubscribe):
            self._unsubscribe(message)
        elif isinstance(message, Resume):
            await self._resume(message)
        else:
            self.say("pong", at=render_time(datetime.now(UTC)))

    # What clients ask for

    async def _subscribe(self, message: Subscribe) -> None:
        wanted = {*self.subscriptions.channels, *message.channels}
        if len(wanted) > MOST_CHANNELS:
            raise Refused("too_many_channels", f"At most {MOST_CHANNELS} channels.")
        found = await self.ask(lambda: found_channels(self.given, message.channels))
        if found is None:
            raise Refused("not_found", "No such channel.")
        if not self.subscriptions.channels:  # live events must not overtake what was missed
            await self.hold()
        self.subscriptions.add(found, message.events)
        for owner in self.subscriptions.owners - self.joined:
            await self.join(owner)
        self.say("subscribed", id=message.id, channels=[channel.name for channel in found])

    async def _go_on(self) -> None:
        """Nothing is asked for: what happened meanwhile is told. In steps: a busy process hears late."""
        for _ in range(STEPS):
            await asyncio.sleep(RESUMED_IN / STEPS)
        self.start(self.hold_back())

    def _unsubscribe(self, message: Unsubscribe) -> None:
        for name in message.channels:
            self.subscriptions.channels.pop(name, None)
        for owner in self.joined - self.subscriptions.owners:
            self.leave(owner)
        self.say("unsubscribed", id=message.id, channels=message.channels)

    async def _resume(self, message: Resume) -> None:
        if (message.cursor is None) == (message.tasks is None):
            raise Refused("bad_message", "Give a cursor or tasks.")
        if message.cursor is not None:
            count = await self.hold_back(self.replay(message.cursor))
        else:
            count = await self.hold_back(self._replay_tasks(message.tasks or {}))
        # What commits during the replay comes again after a resume from here.
        self.say("resumed", id=message.id, cursor=str(self.ahead), replayed=count)

    async def _replay_tasks(self, tasks: dict[str, int]) -> int:
        ids = {id_: seq for text, seq in tasks.items() if (id_ := parse_id(text)) and seq >= 0}
        now = await self.ask(lambda: events.tasks_now(ids))
        if len(now) < len(tasks) or not all(
            self.given.sees(one.account_id) for one in now.values()
        ):
            raise Refused("not_found", "No such task.")
        return sum([await self._replay_task(id_, seq, now[id_]) for id_, seq in ids.items()])

    async def _replay_task(self, id_: UUID, after: int, now: events.Now) -> int:
        count = 0
        while True:
            key = (id_, after)
            found = (await self.ask(lambda key=key: events.of_tasks([key])))[key]  # type: ignore[misc]
            if (found[0].seq if found else after + 1) != after + 1 or (
                not found and now.seq > after
            ):
                raise Refused("cursor_expired", "Events behind this place are not kept any more.")
            count += await self.send_stored(now.account_id, found)
            if len(found) < events.MOST:
                return count
            after = found[-1].seq or after

    # What feeds offer

    def wants(self, owner: UUID | None, kind: str, task: str | None, batch: str | None) -> bool:
        return self.subscriptions.match(owner, kind, task, batch) is not None

    def only(self, owner: UUID | None) -> frozenset[UUID] | None:
        return self.subscriptions.only(owner)

    def named(self, owner: UUID | None) -> tuple[set[UUID], set[UUID]]:
        return self.subscriptions.named(owner)

    def item_of(self, owner: UUID | None, event: Shown) -> str | None:
        channel = self.subscriptions.match(owner, event.kind, event.task, event.batch)
        return event_message(channel, event, admin=self.given.admin) if channel else None

    def _error(self, code: str, message: str, given: Any) -> None:
        id_ = given.get("id") if isinstance(given, dict) else None
        known = id_ if isinstance(id_, (str, int)) else None
        self.say("error", code=code, message=message, id=known)


def read(given: Any) -> BaseModel:
    """A client's message. Raises ValueError."""
    if not isinstance(given, dict) or given.get("action") not in ACTIONS:
        raise ValueError("unknown action")
    try:
        return ACTIONS[given["action"]].model_validate(given)
    except ValidationError as error:
        raise ValueError("not as this action wants it") from error
