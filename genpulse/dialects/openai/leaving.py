"""Clients that go away before their chat answer is there: nobody wants it any more, so its task is canceled.

A view marks its answer (`leaves`); `attentive` notices that the client has gone while the view works or its answer is
held, and streams notice it themselves. Whoever else waits on the task, at any web process, keeps it going.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from dataclasses import dataclass
from functools import wraps
from typing import Any
from uuid import UUID
from weakref import WeakKeyDictionary

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from genpulse.http.turns import begun
from tasks import waiting
from tasks.hub import Hub, Loader, hub
from tasks.lifecycle import apply
from tasks.moves import Cancel

ATTEMPTS = 30  # seconds a database that is away is waited for


@dataclass(frozen=True, slots=True)
class Leaves:
    """What to do when the client goes: `by` is who is told to have canceled the task."""

    task_id: UUID
    account_id: UUID
    by: str


def attentive(view: Callable[..., HttpResponseBase]) -> Callable[..., Any]:
    """As `tasks.waiting.patient`, for a view that minds when its client leaves."""

    @wraps(view)
    async def outer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        first = asyncio.ensure_future(begun(view, request, *args, **kwargs))
        try:
            response: HttpResponseBase = await asyncio.shield(first)
            return await waiting.answered(response, request)
        except asyncio.CancelledError:
            background(_left(first))
            raise

    return outer


async def _left(first: "asyncio.Future[HttpResponseBase]") -> None:
    """A thread cannot be stopped half-way: what it still makes is given up then."""
    response = await first
    leaves: Leaves | None = getattr(response, "leaves", None)
    if leaves is not None:
        await give_up(leaves)


async def give_up(leaves: Leaves) -> None:
    """Cancel the task unless somebody else waits on it."""
    if await hub().waited_for(leaves.task_id, leaves.account_id):
        return
    cancel = _canceling()
    for _ in range(ATTEMPTS):
        if await cancel.load((leaves.task_id, leaves.by)):
            return
        await asyncio.sleep(1)


_loaders: WeakKeyDictionary[Hub, Loader[tuple[UUID, str], bool]] = WeakKeyDictionary()
_running: set[asyncio.Task[None]] = set()


def _canceling() -> Loader[tuple[UUID, str], bool]:
    """Many clients that go at the same time are one statement."""
    here = hub()
    return _loaders.setdefault(here, Loader(_cancel, here.threads))


def _cancel(wanted: Collection[tuple[UUID, str]]) -> dict[tuple[UUID, str], bool]:
    apply([Cancel(task_id=task_id, by=by) for task_id, by in wanted])
    return dict.fromkeys(wanted, True)


def background(work: Coroutine[Any, Any, None]) -> None:
    """Outlives its request; the loop itself holds tasks weakly."""
    task = asyncio.get_running_loop().create_task(work, context=Context())
    _running.add(task)
    task.add_done_callback(_running.discard)
