"""Tasks as they were a moment ago, in the live Redis: for clients that ask ten times a second.

Whoever reads a task from PostgreSQL leaves it there for two seconds. The bell of every commit puts the new seq in its
place (`genpulse.events.bells`), and what was read before that commit is not taken any more. A lost bell therefore
costs two seconds, and a Redis that is away costs a query.
"""

import json
import time
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

import redis
import structlog
from django.db import connection

from genpulse.events import bells
from tasks.models import Task
from tasks.render import extras, plain_task, shown

log = structlog.get_logger(__name__)
NEVER = 2**53  # no seq gets there
PAUSE = 1.0
_away_until = 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """`plain`: see `tasks.render.plain_task`."""

    account_id: str
    plain: dict[str, Any]

    def answer(self, known: str, *, admin: bool) -> tuple[dict[str, Any] | None, str]:
        """The task and its ETag; without the task for a client whose If-None-Match is `known`."""
        body = shown(self.plain, admin=admin)
        tag = f'"{body["status"]}-{body["seq"]}-{body["progress"]}"'
        return None if knows(known, tag) else body, tag

    @classmethod
    def take(cls, task: Task) -> Self:
        """Of a row that was just read; kept for others, unless it was never committed."""
        made = cls(str(task.account_id), plain_task(task, extras([task.id])[task.id]))
        if not connection.in_atomic_block:
            text = json.dumps([made.account_id, made.plain])
            bells.keep_newest({made.plain["id"]: task.seq}, text)
        return made


def recent(task_id: UUID) -> Snapshot | None:
    """The task as it was at most two seconds ago; None: ask the database."""
    if connection.in_atomic_block or away():
        return None
    try:
        kept: Any = bells.live().get(bells.newest(str(task_id)))
    except redis.RedisError as error:
        missed(error)
        return None
    return read(kept)


def away() -> bool:
    """Was Redis away a moment ago? It is asked again a second later."""
    return time.monotonic() < _away_until


def missed(error: Exception) -> None:
    """Redis could not be asked."""
    global _away_until  # noqa: PLW0603 - one clock for the process
    _away_until = time.monotonic() + PAUSE
    log.warning("snapshots.off", error=type(error).__name__)


def read(kept: bytes | None) -> Snapshot | None:
    """What is kept of a task; None when that is its newest seq alone."""
    _, _, text = (kept or b"").partition(b"\n")
    return Snapshot(*json.loads(text)) if text else None


def knows(header: str, tag: str) -> bool:
    """Is `tag` in an If-None-Match? Compared weakly: a compressed answer carries it as `W/"..."`."""
    given = {one.strip().removeprefix("W/") for one in header.split(",")}
    return not given.isdisjoint({tag, "*"})


def forget(task_id: UUID) -> None:
    """It is hidden: whatever was read before is not shown any more."""
    bells.keep_newest({str(task_id): NEVER})
