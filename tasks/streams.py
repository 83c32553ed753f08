"""Server-sent events: the stored events of a task or a batch from any place on, and what passes by meanwhile."""

import json
from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from genpulse.events.cursors import Cursor
from genpulse.http.parsing import render_time
from tasks import channels, waiting
from tasks.asides import Asides
from tasks.deltas import Deltas, Piece
from tasks.events import BATCH_ENDS, MOST, TASK_ENDS, Stored
from tasks.hub import EVERYTHING, Watch, hub
from tasks.render import text

EVENT_STREAM = "text/event-stream"
PING_EVERY = 15.0
PING = ": ping\n\n"
HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
DELTA = "task.delta"


def wanted(request: Request | HttpRequest) -> bool:
    return EVENT_STREAM in request.headers.get("Accept", "")


def respond(source: "Source", *, admin: bool, method: str | None = "GET") -> HttpResponseBase:
    if method == "HEAD":
        return HttpResponse(content_type=EVENT_STREAM, headers=HEADERS)
    return StreamingHttpResponse(
        follow(source, admin=admin), content_type=EVENT_STREAM, headers=HEADERS
    )


class Source(Protocol):
    """What a stream is about. `streamed`: the task whose deltas may have begun already.

    `tasks`, `batches`: what is told of beside its stored events.
    """

    account_id: UUID
    streamed: str | None
    tasks: Sequence[UUID]
    batches: Sequence[UUID]

    def watch(self) -> Watch: ...

    async def read(self, watch: Watch) -> list[Stored]:
        """What was stored since the last read."""

    def label(self, event: Stored) -> str:
        """What a client sends back to go on from there."""

    def ended(self, found: list[Stored]) -> bool:
        """Was that the end?"""


class TaskSource:
    """A task's events by seq."""

    batches: Sequence[UUID] = ()

    def __init__(self, task_id: UUID, account_id: UUID, after: int, *, streamed: bool) -> None:
        self.task_id, self.account_id, self.after = task_id, account_id, after
        self.streamed = str(task_id) if streamed else None
        self.tasks: Sequence[UUID] = [task_id]

    def watch(self) -> Watch:
        return Watch(str(self.task_id))

    async def read(self, watch: Watch) -> list[Stored]:
        found = await hub().task_events.load((self.task_id, self.after)) or []
        if found:
            self.after = found[-1].seq or self.after
        if len(found) == MOST:
            watch.ring()  # there may be more than one read can hold
        return found

    def label(self, event: Stored) -> str:
        return str(event.seq)

    def ended(self, found: list[Stored]) -> bool:
        return found[-1].type in TASK_ENDS


class BatchSource:
    """The events of a batch and its children by cursor."""

    streamed: str | None = None
    tasks: Sequence[UUID] = ()

    def __init__(self, batch_id: UUID, account_id: UUID, after: Cursor) -> None:
        self.batch_id, self.account_id, self.after = batch_id, account_id, after
        self.batches: Sequence[UUID] = [batch_id]

    def watch(self) -> Watch:
        return Watch(EVERYTHING, batch=str(self.batch_id))

    async def read(self, watch: Watch) -> list[Stored]:
        page = await hub().batch_events.load((self.batch_id, self.after))
        if page is None:
            return []
        if page.events:
            self.after = page.events[-1].cursor
        if page.events or page.early:
            hub().loop.call_later(waiting.SOON, watch.ring)
        return page.events

    def label(self, event: Stored) -> str:
        return str(event.cursor)

    def ended(self, found: list[Stored]) -> bool:
        return found[-1].type in BATCH_ENDS


async def follow(source: Source, *, admin: bool) -> AsyncIterator[str]:
    """The frames of one stream, until its end or until the client goes away."""
    here, watch = hub(), source.watch()
    deltas, asides = Deltas(here.redis), Asides(here)
    pinged = here.loop.time()
    told = channels.stored(source.account_id), channels.passing(source.account_id)
    with here.hearing(watch, *told):
        while True:
            rung, passing = await watch.woken()
            if rung and source.streamed:  # its ring may have been lost, or come before us
                passing.append({"type": DELTA, "task": source.streamed, "batch": None})
            found = await source.read(watch) if rung else []
            for frame in await frames(source, found, passing, deltas, admin=admin):
                yield frame
            if found and source.ended(found):
                return
            if rung:
                for message in await asides.news(source.tasks, source.batches):
                    yield frame_of(transient(message))
            if here.loop.time() - pinged >= PING_EVERY:
                pinged = here.loop.time()
                yield PING


async def frames(
    source: Source,
    found: Iterable[Stored],
    passing: list[dict[str, Any]],
    deltas: Deltas,
    *,
    admin: bool,
) -> list[str]:
    """One round. What passed by, and the last deltas, come before the end of their task."""
    lines: list[str] = []
    for event in found:
        if event.type in TASK_ENDS:
            lines += await passed(passing, deltas)
            lines += await last_words(event, deltas)
            passing = []
        lines.append(frame_of(event.shown(admin=admin), source.label(event)))
    return lines + await passed(passing, deltas)


async def passed(messages: Iterable[dict[str, Any]], deltas: Deltas) -> list[str]:
    """The frames of what passed by; a delta is only rung for and read here, once for many rings."""
    lines, read = [], set()
    for message in messages:
        task = message["task"]
        if message["type"] != DELTA:
            lines.append(frame_of(transient(message)))
        elif task not in read:
            read.add(task)
            lines += pieces(task, await deltas.news(task), message["batch"])
    return lines


async def last_words(event: Stored, deltas: Deltas) -> list[str]:
    """Before a streamed task is told to have succeeded: whatever its reader has missed."""
    if not event.stream:
        return []
    task, batch = str(event.task_id), text(event.batch_id)
    return pieces(task, await deltas.rest(task, event.data.get("output")), batch)


def pieces(task: str, said: Iterable[Piece], batch: str | None = None) -> list[str]:
    return [frame_of(delta_event(task, piece, batch)) for piece in said]


def delta_event(task: str, piece: Piece, batch: str | None) -> dict[str, Any]:
    at = render_time(datetime.now(UTC))
    return transient({"type": DELTA, "task": task, "batch": batch, "at": at, "data": piece})


def transient(message: dict[str, Any]) -> dict[str, Any]:
    """The event object of what is not stored."""
    return {
        "id": None,
        "seq": None,
        "type": message["type"],
        "task_id": message["task"],
        "batch_id": message["batch"],
        "at": message["at"],
        "data": message["data"],
    }


def frame_of(event: dict[str, Any], label: str | None = None) -> str:
    """Only stored events have an id to go on from."""
    head = "" if label is None else f"id: {label}\n"
    data = json.dumps(event, separators=(",", ":"))
    return f"{head}event: {event['type']}\ndata: {data}\n\n"
