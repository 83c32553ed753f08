"""What one WebSocket listens to, and what waits for it to be sent."""

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from genpulse.http.parsing import Body
from genpulse.ids import parse_id
from providers import registry
from tasks.feeds import Shown
from tasks.grants import Grant
from tasks.models import Batch, Task

MOST_WAITING = 1000
MOST_CHANNELS = 500
TOO_SLOW = 4409
Channels = list[str]


class Subscribe(Body):
    action: Literal["subscribe"]
    channels: Channels = Field(min_length=1)
    events: list[str] = Field(["*"], min_length=1, max_length=50)
    id: str | int | None = None


class Unsubscribe(Body):
    action: Literal["unsubscribe"]
    channels: Channels = Field(min_length=1)
    id: str | int | None = None


class Resume(Body):
    """Exactly one of both."""

    action: Literal["resume"]
    cursor: str | None = Field(None, max_length=200)
    tasks: dict[str, int] | None = Field(None, max_length=MOST_CHANNELS)
    id: str | int | None = None


class Ping(Body):
    action: Literal["ping"]
    id: str | int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """`owner`: whose feed carries it (None: the operators'). `family` only for `queue:<family>`."""

    name: str
    owner: UUID | None = None
    object_id: UUID | None = None
    family: str | None = None


def found_channels(grant: Grant, names: Channels) -> list[Channel] | None:
    """What the names stand for; None when one is unknown or somebody else's."""
    found = [_channel(grant, name) for name in dict.fromkeys(names)]
    known = [channel for channel in found if channel is not None]
    return known if len(known) == len(found) else None


def _channel(grant: Grant, name: str) -> Channel | None:
    kind, _, rest = name.partition(":")
    if name == "user":
        return Channel(name=name, owner=grant.account_id)
    if name == "admin":
        return Channel(name=name) if grant.admin else None
    if kind == "queue":
        known = {family.name for family in registry.families()}
        return Channel(name=name, family=rest) if grant.admin and rest in known else None
    return _object_channel(grant, name, kind, parse_id(rest))


def _object_channel(grant: Grant, name: str, kind: str, id_: UUID | None) -> Channel | None:
    models: dict[str, Any] = {"task": Task, "batch": Batch}
    if kind not in models or id_ is None:
        return None
    rows = models[kind].objects.filter(pk=id_, hidden_at=None)
    owner = rows.values_list("account_id", flat=True).first()
    if owner is None or not grant.sees(owner):
        return None
    return Channel(name=name, owner=owner, object_id=id_)


class Subscriptions:
    """The channels of a socket with the event types wanted on each."""

    def __init__(self) -> None:
        self.channels: dict[str, tuple[Channel, list[str]]] = {}

    def add(self, channels: list[Channel], patterns: list[str]) -> None:
        self.channels |= {channel.name: (channel, patterns) for channel in channels}

    @property
    def owners(self) -> set[UUID | None]:
        """Whose feeds are needed."""
        return {one.owner for one, _ in self.channels.values() if one.family is None}

    @property
    def families(self) -> list[str]:
        return [one.family for one, _ in self.channels.values() if one.family is not None]

    def only(self, owner: UUID | None) -> frozenset[UUID] | None:
        mine = [one for one, _ in self.channels.values() if one.owner == owner and not one.family]
        if any(one.object_id is None for one in mine):
            return None
        return frozenset(one.object_id for one in mine if one.object_id)

    def named(self, owner: UUID | None) -> tuple[set[UUID], set[UUID]]:
        """The tasks and the batches of an owner that have a channel of their own."""
        mine = [one for one, _ in self.channels.values() if one.owner == owner and one.object_id]
        tasks = {one.object_id for one in mine if one.name.startswith("task:") and one.object_id}
        return tasks, {one.object_id for one in mine if one.object_id} - tasks

    def match(
        self, owner: UUID | None, kind: str, task: str | None, batch: str | None
    ) -> str | None:
        """The most telling channel an event belongs to."""
        whole = "user" if owner is not None else "admin"
        for name in (f"task:{task}", f"batch:{batch}", whole):
            channel, patterns = self.channels.get(name, (None, []))
            if channel and channel.owner == owner and any(fits(kind, one) for one in patterns):
                return name
        return None


def fits(kind: str, pattern: str) -> bool:
    """`*`, `task.*`, `task.succeeded`."""
    if pattern.endswith("*"):
        return kind.startswith(pattern[:-1])
    return kind == pattern


class Outbox:
    """Messages, or what becomes one, for a reader that may be slow: what is not stored goes first, then the reader."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[Any, bool]] = deque()
        self._filled, self._room = asyncio.Event(), asyncio.Event()
        self._room.set()
        self.end: tuple[int, str] | None = None  # close code and reason

    def put(self, message: Any, *, transient: bool = False) -> None:
        if self.end is not None or (transient and len(self._waiting) >= MOST_WAITING):
            return
        if len(self._waiting) >= MOST_WAITING:
            self._waiting = deque(entry for entry in self._waiting if not entry[1])
        if len(self._waiting) >= MOST_WAITING:
            self.close(TOO_SLOW, "reader too slow")
            return
        self._waiting.append((message, transient))
        self._filled.set()
        if len(self._waiting) > MOST_WAITING // 2:
            self._room.clear()

    def close(self, code: int, reason: str) -> None:
        """Nothing more is sent but the reason."""
        self.end = self.end or (code, reason)
        self._waiting.clear()
        self._filled.set()
        self._room.set()

    async def take(self) -> Any:
        """The next message; None: the end has come."""
        while not self._waiting and self.end is None:
            self._filled.clear()
            await self._filled.wait()
        if self.end is not None:
            return None
        message, _ = self._waiting.popleft()
        if len(self._waiting) <= MOST_WAITING // 2:
            self._room.set()
        return message

    async def room(self) -> None:
        """Until at most half of the places are taken: for those who can wait."""
        await self._room.wait()


def event_message(channel: str, event: Shown, *, admin: bool) -> str:
    return f'{{"type":"event","channel":{json.dumps(channel)},"event":{event.text(admin=admin)}}}'
