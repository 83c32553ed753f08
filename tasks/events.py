"""Stored events, read for many readers at once, and how they look from outside.

Three ways to read on: a task by `seq`; a batch by cursor, strictly below the oldest open transaction;
an owner from a line on, for live feeds that remember what they have seen. See `genpulse.events.cursors`.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from genpulse import sql
from genpulse.events import cursors
from genpulse.events.cursors import Cursor
from genpulse.http.parsing import render_time
from media import services as media
from tasks.models import TERMINAL
from tasks.render import signed, text

TASK_ENDS = frozenset(f"task.{status.value}" for status in TERMINAL)
BATCH_ENDS = frozenset({"batch.completed", "batch.partial", "batch.failed"})
MOST = 500  # events of one object in one read
FIELDS = (
    "e.id, e.xid::text::bigint AS xid, e.floor::text::bigint AS floor, e.type, e.data, e.at,"
    " e.task_id, e.batch_id, e.seq, coalesce(t.stream, false) AS stream"
)
# Whether an ended task was streamed: its last delta may have to be made good.
STREAM = "LEFT JOIN tasks_task t ON t.id = e.task_id AND e.type = 'task.succeeded'"
OF_TASKS = f"""
SELECT w.task, w.after, {FIELDS} FROM unnest(%s::uuid[], %s::int[]) AS w(task, after)
CROSS JOIN LATERAL (SELECT * FROM events_event WHERE task_id = w.task AND seq > w.after
  ORDER BY seq LIMIT %s) e {STREAM} ORDER BY w.task, e.seq
"""  # noqa: S608 - parts of our own
OF_BATCHES = f"""
SELECT w.batch, w.after, e.xid >= pg_snapshot_xmin(pg_current_snapshot()) AS early, {FIELDS}
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::bigint[]) AS w(batch, after, xid, id)
CROSS JOIN LATERAL (SELECT * FROM events_event WHERE batch_id = w.batch
  AND (xid, id) > (w.xid::xid8, w.id) AND (seq IS NOT NULL OR type LIKE 'batch.%%')
  ORDER BY xid, id LIMIT %s) e {STREAM} ORDER BY w.batch, e.xid, e.id
"""  # noqa: S608
OF_OWNERS = f"""
SELECT w.owner, w.line, {FIELDS} FROM unnest(%s::uuid[], %s::text[], %s::boolean[]) AS w(owner, line, whole)
JOIN events_event e ON e.account_id = w.owner AND e.xid >= w.line::xid8
  AND (w.whole OR e.task_id = ANY(%s) OR e.batch_id = ANY(%s)) {STREAM} ORDER BY e.xid, e.id
"""  # noqa: S608
OF_OPERATORS = f"""
SELECT NULL::uuid AS owner, %s AS line, {FIELDS} FROM events_event e {STREAM}
WHERE e.account_id IS NULL AND e.xid >= %s::xid8 ORDER BY e.xid, e.id
"""  # noqa: S608
REPLAY = f"""
SELECT {FIELDS} FROM (SELECT * FROM events_event WHERE account_id $owner
  AND (xid, id) > (%s::xid8, %s) ORDER BY xid, id LIMIT {MOST}) e {STREAM} ORDER BY e.xid, e.id
"""  # noqa: S608
TASKS_NOW = "SELECT id, account_id, finished_at IS NOT NULL, seq FROM tasks_task WHERE id = ANY(%s)"
BATCHES_NOW = "SELECT id, account_id, open = 0, 0 FROM tasks_batch WHERE id = ANY(%s)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A row of events. `stream`: it ends a task whose deltas were asked for."""

    id: int
    xid: int
    floor: int
    type: str
    data: dict[str, Any]
    at: datetime
    task_id: UUID | None
    batch_id: UUID | None
    seq: int | None
    stream: bool = False

    @property
    def cursor(self) -> Cursor:
        return Cursor(xid=self.xid, id=self.id, floor=self.floor, at=int(self.at.timestamp()))

    def shown(self, *, admin: bool) -> dict[str, Any]:
        """The event object of the contract; URLs are signed here."""
        return {
            "id": str(self.cursor),
            "seq": self.seq,
            "type": self.type,
            "task_id": text(self.task_id),
            "batch_id": text(self.batch_id),
            "at": render_time(self.at),
            "data": shown_data(self.data, admin=admin),
        }


def shown_data(data: Mapping[str, Any], *, admin: bool) -> dict[str, Any]:
    """Event data as clients see it: fresh URLs, and the vendor's id of the job for operators only."""
    shown = dict(data)
    if shown.get("output"):
        shown["output"] = signed(shown["output"])
    if shown.get("asset"):
        shown["asset"] = media.with_url(shown["asset"])
    if not admin:
        shown.pop("external_id", None)
    return shown


@dataclass(frozen=True, slots=True, kw_only=True)
class Now:
    """Where a task or a batch stands."""

    account_id: UUID
    ended: bool
    seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Events of a batch. `early`: more are there, but above the line of the oldest open transaction."""

    events: list[Stored]
    early: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What a feed wants: all of an owner (None: the operators) from transaction `floor` on, or only
    what belongs to some tasks and batches."""

    owner: UUID | None
    floor: int
    only: frozenset[UUID] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class News:
    """`floor`: from where to read the next time."""

    events: list[Stored]
    floor: int


def tasks_now(ids: Collection[UUID]) -> dict[UUID, Now]:
    return _now(TASKS_NOW, ids)


def batches_now(ids: Collection[UUID]) -> dict[UUID, Now]:
    return _now(BATCHES_NOW, ids)


def _now(query: str, ids: Collection[UUID]) -> dict[UUID, Now]:
    return {
        id_: Now(account_id=account, ended=ended, seq=seq)
        for id_, account, ended, seq in sql.fetch(query, [list(ids)])
    }


def of_tasks(
    wanted: Collection[tuple[UUID, int]], limit: int = MOST
) -> dict[tuple[UUID, int], list[Stored]]:
    """For each (task, seq): what came after it, at most `limit`."""
    found: dict[tuple[UUID, int], list[Stored]] = {key: [] for key in wanted}
    for row in sql.fetch_dicts(OF_TASKS, [*sql.columns(list(wanted)), limit]):
        found[row.pop("task"), row.pop("after")].append(stored(row))
    return found


def of_batches(
    wanted: Collection[tuple[UUID, Cursor]], limit: int = MOST
) -> dict[tuple[UUID, Cursor], Page]:
    """For each (batch, cursor): what became visible after it, at most `limit`."""
    keys = {(batch, str(after)): (batch, after) for batch, after in wanted}
    rows = [(batch, text_, str(c.xid), c.id) for (batch, text_), (_, c) in keys.items()]
    events: dict[Any, list[Stored]] = defaultdict(list)
    early = set()
    for row in sql.fetch_dicts(OF_BATCHES, [*sql.columns(rows), limit]):
        key = keys[row.pop("batch"), row.pop("after")]
        if row.pop("early"):
            early.add(key)
        else:
            events[key].append(stored(row))
    return {key: Page(events=events[key], early=key in early) for key in wanted}


def of_owners(wanted: Collection[Line]) -> dict[Line, News]:
    """For each line: everything visible from there on, in the order `(xid, id)`."""
    floor = cursors.now().xid
    found: dict[Line, News] = {line: News(events=[], floor=floor) for line in wanted}
    by_row: dict[tuple[UUID | None, str], list[Line]] = defaultdict(list)
    for line in wanted:
        by_row[line.owner, str(line.floor)].append(line)
    for row in _owner_rows(wanted):
        lines = by_row[row.pop("owner"), row.pop("line")]
        event = stored(row)
        for line in lines:
            if line.only is None or not line.only.isdisjoint({event.task_id, event.batch_id}):
                found[line].events.append(event)
    return found


def _owner_rows(wanted: Collection[Line]) -> list[dict[str, Any]]:
    rows: dict[tuple[UUID, str], bool] = {}
    for line in wanted:
        if line.owner is not None:
            key = (line.owner, str(line.floor))
            rows[key] = rows.get(key, False) or line.only is None
    only = list({id_ for line in wanted for id_ in line.only or ()})
    found: list[dict[str, Any]] = []
    if rows:
        parameters = sql.columns([(*key, whole) for key, whole in rows.items()])
        found += sql.fetch_dicts(OF_OWNERS, [*parameters, only, only])
    for floor in {str(line.floor) for line in wanted if line.owner is None}:
        found += sql.fetch_dicts(OF_OPERATORS, [floor, floor])
    return found


def replay(owner: UUID | None, xid: int, id_: int) -> list[Stored]:
    """The next portion of an owner's events after that place, whoever is still open."""
    whose = "= %s" if owner else "IS NULL"
    place = [*([owner] if owner else []), str(xid), id_]
    return [stored(row) for row in sql.fetch_dicts(REPLAY.replace("$owner", whose), place)]


def stored(row: dict[str, Any]) -> Stored:
    row["data"] = sql.loads(row["data"])
    return Stored(**row)
