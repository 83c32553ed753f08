"""The events of a task and of a batch: as a list, as a long poll, as a stream."""

import re
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils import timezone
from pydantic import BaseModel, ConfigDict, Field
from rest_framework.request import Request
from rest_framework.response import Response

from genpulse.config import config
from genpulse.errors import CursorExpired, MalformedHeader, ValidationFailed
from genpulse.events.cursors import START, Cursor
from genpulse.http.parsing import Flag
from tasks import events, streams, waiting
from tasks.api import TaskDoor
from tasks.batch_api import BatchDoor
from tasks.events import Stored
from tasks.models import TERMINAL, Batch, Task


class EventsQuery(BaseModel):
    """`wait` in seconds."""

    model_config = ConfigDict(extra="ignore")

    limit: int = Field(100, ge=1, le=100)
    wait: int | None = Field(None, ge=1, le=30)
    stream: Flag = False


class TaskEventsQuery(EventsQuery):
    after: int = Field(0, ge=0, lt=2**31)


class BatchEventsQuery(EventsQuery):
    after: str | None = Field(None, max_length=200)


class TaskEvents(TaskDoor):
    """What happened to a task, by `seq`."""

    queries: ClassVar[dict[str, type[BaseModel]]] = {"GET": TaskEventsQuery}

    def get(self, request: Request, id_: str) -> HttpResponseBase:
        asked = self.query(TaskEventsQuery)
        task = self.task(id_)
        if asked.stream or streams.wanted(request):
            return self.stream(task, last_seq(request, asked.after))
        body = self.page(task, asked)
        response = Response(body)
        if asked.wait is None or body["items"] or body["terminal"]:
            return response
        news = partial(waiting.task_news, task.id, asked.after, asked.wait)
        return self.held(response, news, lambda: Response(self.page(self.task(id_), asked)))

    def stream(self, task: Task, after: int) -> HttpResponseBase:
        """204 tells a browser that comes again to stop: there is nothing left."""
        check_kept(task, after, events.of_tasks([(task.id, after)], 1)[(task.id, after)])
        if task.status in TERMINAL and after >= task.seq:
            return HttpResponse(status=204)
        source = streams.TaskSource(task.id, task.account_id, after, streamed=task.stream)
        admin = self.credential.has("admin")
        return streams.respond(source, admin=admin, method=self.request.method)

    def page(self, task: Task, asked: TaskEventsQuery) -> dict[str, Any]:
        """One seq after the other: a task that began later than the reader left off has lost some."""
        key = (task.id, asked.after)
        found = events.of_tasks([key], asked.limit)[key]
        check_kept(task, asked.after, found)
        admin = self.credential.has("admin")
        last = found[-1].seq or 0 if found else asked.after
        return {
            "items": [event.shown(admin=admin) for event in found],
            "last_seq": last,
            # Whoever reads until it is true has read everything.
            "terminal": task.status in TERMINAL and last >= task.seq,
        }


def last_seq(request: Request, after: int) -> int:
    """Where a stream goes on: `Last-Event-ID`, else `after`. Raises MalformedHeader."""
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return after
    if not re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII):
        raise MalformedHeader("Last-Event-ID must be the id of an event of this stream.")
    return int(text)


def check_kept(task: Task, after: int, found: list[Stored]) -> None:
    """Raises CursorExpired when events behind `after` were removed."""
    first = found[0].seq if found else None
    if task.seq > after and first != after + 1:
        raise CursorExpired


class BatchEvents(BatchDoor):
    """What happened to a batch and its tasks, by cursor."""

    queries: ClassVar[dict[str, type[BaseModel]]] = {"GET": BatchEventsQuery}

    def get(self, request: Request, id_: str) -> HttpResponseBase:
        asked = self.query(BatchEventsQuery)
        batch = self.batch(id_)
        if asked.stream or streams.wanted(request):
            given = request.headers.get("Last-Event-ID", asked.after)
            return self.stream(batch, place_in(batch, given))
        after = place_in(batch, asked.after)
        body = self.page(batch, after, asked)
        response = Response(body)
        if asked.wait is None or body["items"] or body["terminal"]:
            return response
        news = partial(waiting.batch_news, batch.id, batch.account_id, after, asked.wait)
        return self.held(response, news, lambda: Response(self.page(self.batch(id_), after, asked)))

    def stream(self, batch: Batch, after: Cursor) -> HttpResponseBase:
        page = events.of_batches([(batch.id, after)], 1)[(batch.id, after)]
        if batch.open == 0 and not page.events and not page.early:
            return HttpResponse(status=204)
        source = streams.BatchSource(batch.id, batch.account_id, after)
        admin = self.credential.has("admin")
        return streams.respond(source, admin=admin, method=self.request.method)

    def page(self, batch: Batch, after: Cursor, asked: BatchEventsQuery) -> dict[str, Any]:
        key = (batch.id, after)
        page = events.of_batches([key], asked.limit)[key]
        found, admin = page.events, self.credential.has("admin")
        return {
            "items": [event.shown(admin=admin) for event in found],
            "last_cursor": str(found[-1].cursor) if found else asked.after,
            "terminal": batch.open == 0 and not page.early and len(found) < asked.limit,
        }


def place_in(batch: Batch, after: str | None) -> Cursor:
    """Where a client has read up to. Raises ValidationFailed, CursorExpired."""
    if after is not None:
        return kept_cursor(after)
    long_ago = timezone.now() - timedelta(seconds=config.event_retention)
    if batch.finished_at is not None and batch.finished_at < long_ago:
        raise CursorExpired
    return START


def kept_cursor(text: str) -> Cursor:
    """Raises ValidationFailed, CursorExpired."""
    try:
        cursor = Cursor.parse(text)
    except ValueError:
        raise ValidationFailed.of("after", "format", "want the id of an event") from None
    if cursor.expired:
        raise CursorExpired
    return cursor
