"""What is told beside the stored events to those who watch: the place of a task that waits, how far a batch is.

Nothing is told to nobody: whoever watches asks for what it watches, at most once a second, and what is asked for at
the same time becomes one query. Only what has changed is told.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from genpulse import sql
from genpulse.http.parsing import render_time
from tasks import insight
from tasks.models import Status, Task
from tasks.render import extras, text

if TYPE_CHECKING:
    from tasks.hub import Hub

EVERY = 0.95  # seconds; watchers are woken once a second
MOST = 100  # objects one watcher is told about
POSITION, PROGRESS = "task.position", "batch.progress"
BATCHES = """
SELECT t.batch_id, t.status, count(*),
  sum(CASE WHEN t.status = 'succeeded' THEN 100 ELSE least(coalesce(a.progress, 0), 99) END)
FROM tasks_task t LEFT JOIN tasks_attempt a ON a.task_id = t.id AND a.number = t.attempt
WHERE t.batch_id = ANY(%s) AND NOT t.superseded GROUP BY t.batch_id, t.status
"""
Message = dict[str, Any]
Key = tuple[str, UUID]
NEVER: tuple[float, Any] = (-1e9, None)


def places(ids: Collection[UUID]) -> dict[UUID, Message]:
    """What is to be told of those that wait for their turn."""
    waiting = list(Task.objects.filter(pk__in=ids, status=Status.QUEUED, ready=True))
    more = extras([task.id for task in waiting]) if waiting else {}
    found = {}
    for task in waiting:
        said = insight.said(task, more[task.id].ahead)
        if said.position is not None:
            data = {"position": said.position, "eta": said.eta}
            found[task.id] = _message(POSITION, data, task=task.id, batch=task.batch_id)
    return found


def progress(ids: Collection[UUID]) -> dict[UUID, Message]:
    """Counts and progress of batches, as the batch itself shows them."""
    counts: dict[UUID, dict[str, int]] = {}
    sums: dict[UUID, int] = {}
    for batch, status, count, percents in sql.fetch(BATCHES, [list(ids)]):
        counts.setdefault(batch, {status.value: 0 for status in Status})[status] = count
        sums[batch] = sums.get(batch, 0) + int(percents)
    return {
        batch: _message(
            PROGRESS, {"counts": of, "progress": sums[batch] // sum(of.values())}, batch=batch
        )
        for batch, of in counts.items()
    }


def _message(
    kind: str, data: Mapping[str, Any], *, task: UUID | None = None, batch: UUID | None
) -> Message:
    at = render_time(datetime.now(UTC))
    return {"type": kind, "task": text(task), "batch": text(batch), "at": at, "data": data}


class Asides:
    """One watcher's: it remembers what it has told."""

    def __init__(self, hub: "Hub") -> None:
        self.hub = hub
        self._told: dict[Key, tuple[float, Any]] = {}

    async def news(self, tasks: Iterable[UUID], batches: Iterable[UUID]) -> list[Message]:
        """The messages that are due; none of what is as it was."""
        wanted = [(POSITION, id_) for id_ in tasks] + [(PROGRESS, id_) for id_ in batches]
        now = self.hub.loop.time()
        due = [key for key in wanted[:MOST] if now - self._told.get(key, NEVER)[0] >= EVERY]
        messages = await asyncio.gather(*map(self._load, due))
        found = []
        for key, message in zip(due, messages, strict=True):
            data = message and message["data"]
            if message and data != self._told.get(key, NEVER)[1]:
                found.append(message)
            self._told[key] = (now, data)
        return found

    async def _load(self, key: Key) -> Message | None:
        kind, id_ = key
        return await (self.hub.places if kind == POSITION else self.hub.progress).load(id_)
