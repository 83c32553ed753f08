"""Append events in the caller's transaction, and ring after it has committed.

Bells carry no content: a lost ring costs one tick or one re-read, never an event.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from psycopg.types.json import Jsonb

from genpulse.events.bells import ring

INSERT = """
INSERT INTO events_event (account_id, type, data, at, task_id, batch_id, seq)
SELECT account_id, type, data, coalesce(at, now()), task_id, batch_id, seq
FROM unnest(%s::uuid[], %s::text[], %s::jsonb[], %s::timestamptz[], %s::uuid[], %s::uuid[], %s::int[])
  AS new(account_id, type, data, at, task_id, batch_id, seq)
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class NewEvent:
    """`account` None: operators only. `seq` only for the types `task.*`."""

    account: UUID | None
    type: str
    data: dict[str, Any] = field(default_factory=dict)
    at: Any = None
    task: UUID | None = None
    batch: UUID | None = None
    seq: int | None = None


def append(events: Sequence[NewEvent]) -> None:
    """Store `events` in the current transaction and ring their owners when it commits."""
    if not events:
        return
    with connection.cursor() as cursor:
        cursor.execute(
            INSERT,
            [
                [event.account for event in events],
                [event.type for event in events],
                [Jsonb(event.data) for event in events],
                [event.at for event in events],
                [event.task for event in events],
                [event.batch for event in events],
                [event.seq for event in events],
            ],
        )
    transaction.on_commit(partial(ring, owners_of(events)), robust=True)


def owners_of(events: Iterable[NewEvent]) -> dict[str, list[tuple[str, int]]]:
    """What to ring: channel -> [(task, seq)], one entry for each owner."""
    rings: dict[str, list[tuple[str, int]]] = {}
    for event in events:
        channel = f"gp:u:{event.account}" if event.account else "gp:admin"
        rings.setdefault(channel, []).append((str(event.task or ""), event.seq or 0))
    return rings
