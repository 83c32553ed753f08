"""Append events in the caller's transaction, and ring after it has committed.

Bells carry no content: a lost ring costs one tick or one re-read, never an event.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection, transaction

from genpulse import sql
from genpulse.events.bells import ADMIT, ring

# One JSON parameter: a driver takes several times longer to write seven arrays. A transaction that waited for
# a lock may be older than the one it waited for: its events are filed under the younger one, because those of
# one task or batch must never stand before their predecessors. A reader that gets there finds both committed.
INSERT = """
INSERT INTO events_event (xid, account_id, type, data, at, task_id, batch_id, seq)
SELECT greatest(pg_current_xact_id(),
    (SELECT xid FROM events_event WHERE task_id = new.task_id AND seq < new.seq ORDER BY seq DESC LIMIT 1),
    (SELECT xid FROM events_event WHERE batch_id = new.batch_id AND new.seq IS NULL ORDER BY xid DESC, id DESC LIMIT 1)),
  account_id, type, data, coalesce(at, now()), task_id, batch_id, seq
FROM json_to_recordset(%s) AS new(account_id uuid, type text, data jsonb, at timestamptz, task_id uuid, batch_id uuid, seq int)
"""

Rings = dict[str, list[tuple[str, int]]]  # channel -> [(task, seq)]


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
    rows = [
        {
            "account_id": event.account and str(event.account),
            "type": event.type,
            "data": event.data,
            "at": event.at and event.at.isoformat(),
            "task_id": event.task and str(event.task),
            "batch_id": event.batch and str(event.batch),
            "seq": event.seq,
        }
        for event in events
    ]
    sql.execute(INSERT, [json.dumps(rows)])
    announce(events)


def announce(events: Iterable[NewEvent]) -> None:
    """Ring the owners when the current transaction commits: for events that are stored already, as those
    of the wallet are by its database functions."""
    _ring_later(owners_of(events))


def announce_work() -> None:
    """Wake the orchestrator when the current transaction commits: work waits, or a slot is free."""
    _ring_later({ADMIT: []})


class Bells:
    """What rings when a transaction has committed: all of it in one round trip."""

    def __init__(self, messages: Rings) -> None:
        self.messages = messages

    def add(self, messages: Rings) -> None:
        for channel, rung in messages.items():
            self.messages.setdefault(channel, []).extend(rung)

    def __call__(self) -> None:
        ring(self.messages)


def _ring_later(messages: Rings) -> None:
    for hook in connection.run_on_commit:
        if isinstance(hook[1], Bells):
            hook[1].add(messages)
            return
    transaction.on_commit(Bells(messages), robust=True)


def owners_of(events: Iterable[NewEvent]) -> Rings:
    """What to ring, one entry for each owner."""
    rings: Rings = {}
    for event in events:
        channel = f"gp:u:{event.account}" if event.account else "gp:admin"
        rings.setdefault(channel, []).append((str(event.task or ""), event.seq or 0))
    return rings
