"""Waiting for the end of a task without holding anything: no thread, no connection, no query of one's own.

A sync view answers at once and may say what the answer should wait for (`hold`); `patient` awaits it, and lets the
view answer again.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase
from pydantic import BaseModel, ConfigDict, Field
from rest_framework.request import Request

from genpulse.errors import MalformedHeader
from genpulse.events.cursors import Cursor
from genpulse.http import turns
from tasks import channels
from tasks.events import Now
from tasks.hub import EVERYTHING, Loader, Watch, hub

LONGEST = 60
SOON = 0.02
PREFERENCE = re.compile(r'\s*wait\s*(?:=\s*"?(?P<seconds>[^";]*)"?\s*)?(?:;.*)?', re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Held:
    """`until` awaits what the answer waits for, `again` makes the answer anew."""

    until: Callable[[], Awaitable[object]]
    again: Callable[[], HttpResponseBase]


def hold(
    response: HttpResponseBase,
    until: Callable[[], Awaitable[object]],
    again: Callable[[], HttpResponseBase],
) -> None:
    """Let `response` wait; its view must be wrapped in `patient`."""
    response.held = Held(until, again)  # type: ignore[attr-defined]


def patient(view: Callable[..., HttpResponseBase]) -> Callable[..., Any]:
    """The async view around a sync one whose answers may be held."""

    @wraps(view)
    async def outer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        return await answered(await turns.begun(view, request, *args, **kwargs), request)

    return outer


async def answered(response: HttpResponseBase, request: HttpRequest) -> HttpResponseBase:
    """The answer of a sync view, when what it waits for has come."""
    held: Held | None = getattr(response, "held", None)
    if held is None:
        return response
    await held.until()
    return await turns.ended(held.again, request)


async def task_end(task_id: UUID, seconds: float) -> bool:
    """True as soon as the task has ended, False when `seconds` have passed."""
    return await _until(hub().tasks, task_id, str(task_id), seconds, lambda now: now.ended)


async def batch_end(batch_id: UUID, seconds: float) -> bool:
    """As `task_end`."""
    return await _until(hub().batches, batch_id, EVERYTHING, seconds, lambda now: now.ended)


async def task_news(task_id: UUID, after: int, seconds: float) -> bool:
    """True as soon as the task has an event after `after`."""
    return await _until(hub().tasks, task_id, str(task_id), seconds, lambda now: now.seq > after)


async def batch_news(batch_id: UUID, account_id: UUID, after: Cursor, seconds: float) -> bool:
    """True as soon as the batch has an event after `after` that a list may show."""
    here, watch = hub(), Watch(EVERYTHING)
    try:
        with here.hearing(watch, channels.stored(account_id)):
            async with asyncio.timeout(seconds):
                while True:
                    await watch.woken()
                    page = await here.batch_events.load((batch_id, after))
                    if page and page.events:
                        return True
                    if page and page.early:
                        here.loop.call_later(SOON, watch.ring)
    except TimeoutError:
        return False


async def _until(
    loader: Loader[UUID, Now], id_: UUID, topic: str, seconds: float, done: Callable[[Now], bool]
) -> bool:
    try:
        async with asyncio.timeout(seconds):
            now = await loader.load(id_)
            while now is None:  # the database is away
                await asyncio.sleep(1)
                now = await loader.load(id_)
            if not done(now):
                await _heard(loader, id_, Watch(topic), now.account_id, done)
            return True
    except TimeoutError:
        return False


async def _heard(
    loader: Loader[UUID, Now],
    id_: UUID,
    watch: Watch,
    account_id: UUID,
    done: Callable[[Now], bool],
) -> None:
    with hub().hearing(watch, channels.stored(account_id)):
        while True:
            await watch.woken()
            now = await loader.load(id_)
            if now is not None and done(now):
                return


class WaitQuery(BaseModel):
    """`?wait=N`: hold the answer until the end, or for N seconds."""

    model_config = ConfigDict(extra="ignore")

    wait: int | None = Field(None, ge=1, le=LONGEST)


def preferred(request: Request) -> int | None:
    """The seconds of `Prefer: wait=N`; other preferences are nobody's business. Raises MalformedHeader."""
    for preference in request.headers.get("Prefer", "").split(","):
        match = PREFERENCE.fullmatch(preference)
        if match is None:
            continue
        text = match["seconds"]
        if text is None:
            return LONGEST
        if not re.fullmatch(r"\d{1,9}", text.strip(), re.ASCII) or not 1 <= int(text) <= LONGEST:
            raise MalformedHeader(f"Prefer: wait wants 1 to {LONGEST} seconds.")
        return int(text)
    return None
