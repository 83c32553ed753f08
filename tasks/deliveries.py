"""Who is told of which event: delivery rows, written in the transaction of the event.

Events of tasks and batches are written here, because their bodies are the object as it is now. All other events
carry their whole story in `data`; a trigger of the events table writes their deliveries, whoever appended them.
Bodies are kept without signed URLs: those are made at sending.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from psycopg.types.json import Jsonb

from genpulse import sql
from genpulse.events.cursors import Cursor
from genpulse.events.log import NewEvent
from genpulse.ids import new_id
from tasks.models import TERMINAL, Batch, Task

TASK_ENDS = frozenset(f"task.{status.value}" for status in TERMINAL)
BATCH_ENDS = frozenset({"batch.completed", "batch.partial", "batch.failed"})
# Columns of other queries about tasks and accounts, so that nobody pays a round trip for having no webhook.
ACCOUNT_IS_WATCHED = (
    "EXISTS (SELECT 1 FROM tasks_webhookendpoint w WHERE w.account_id = {account} AND w.enabled)"
)
TASK_IS_WATCHED = (
    ACCOUNT_IS_WATCHED.format(account="tasks_task.account_id")  # noqa: S608
    + " OR EXISTS (SELECT 1 FROM tasks_taskcontent w WHERE w.task_id = tasks_task.id"
    " AND w.options -> 'webhook' IS NOT NULL)"
)
ENDPOINTS = """
SELECT id, account_id, url, events FROM tasks_webhookendpoint WHERE enabled AND account_id = ANY(%s) ORDER BY id
"""
WISHES = """
SELECT c.task_id, c.options -> 'webhook', b.webhook ->> 'url' FROM tasks_taskcontent c
JOIN tasks_task t ON t.id = c.task_id LEFT JOIN tasks_batch b ON b.id = t.batch_id
WHERE c.task_id = ANY(%s) AND c.options -> 'webhook' IS NOT NULL
"""
BATCH_WISHES = "SELECT id, webhook FROM tasks_batch WHERE id = ANY(%s) AND webhook IS NOT NULL"
STORED = (
    "SELECT e.id, e.xid::text::bigint, e.floor::text::bigint, e.at, e.task_id, e.batch_id, e.type, e.seq"  # noqa: S608
    " FROM events_event e JOIN "
    + sql.unnest({"task_id": "uuid", "seq": "int"})
    + " ON e.task_id = new.task_id AND e.seq = new.seq UNION ALL"
    " SELECT e.id, e.xid::text::bigint, e.floor::text::bigint, e.at, NULL, e.batch_id, e.type, NULL"
    " FROM events_event e WHERE e.batch_id = ANY(%s) AND e.seq IS NULL AND e.xid = pg_current_xact_id()"
)
DELIVERY = {
    "id": "uuid",
    "account_id": "uuid",
    "endpoint_id": "uuid",
    "url": "text",
    "host": "text",
    "style": "text",
    "event_id": "text",
    "event_type": "text",
    "task_id": "uuid",
    "batch_id": "uuid",
    "seq": "int",
    "status": "text",
    "attempts": "smallint",
    "error": "text",
    "body": "jsonb",
    "tries": "jsonb",
    "next_attempt_at": "timestamptz",
    "created_at": "timestamptz",
    "sending": "boolean",
}


@dataclass(frozen=True, slots=True)
class Receiver:
    """`endpoint` None: the webhook of one task or batch."""

    url: str
    events: tuple[str, ...]
    endpoint: UUID | None = None
    style: str = "native"

    def wants(self, kind: str) -> bool:
        return any(fits(pattern, kind) for pattern in self.events)


def fits(pattern: str, kind: str) -> bool:
    """`*`, `task.*`, or the name of one event."""
    if pattern.endswith(".*"):
        return kind.startswith(pattern.removesuffix("*"))
    return pattern in {"*", kind}


def host_of(url: str) -> str:
    """What shares one allowance of calls in flight."""
    return urlsplit(url).netloc.lower()[:300]


def write(events: Sequence[NewEvent]) -> None:
    """Deliveries of events of tasks and batches, which the current transaction has just appended."""
    if not events:
        return
    found = _Receivers(events)
    pairs = [(event, to) for event in events for to in found.of(event) if to.wants(event.type)]
    if pairs:
        insert(pairs)


def insert(pairs: Sequence[tuple[NewEvent, Receiver]]) -> None:
    stored = _stored([event for event, _ in pairs])
    bodies = _bodies([event for event, _ in pairs])
    rows = []
    for event, to in pairs:
        cursor, at = stored[_key(event)]
        subject = event.task if event.seq is not None else event.batch
        body = Jsonb(bodies[subject]) if subject in bodies else None
        rows.append(_row(event, to, str(cursor), at, body))
    sql.insert("tasks_delivery", DELIVERY, rows)


def _row(event: NewEvent, to: Receiver, id_: str, at: Any, body: Jsonb | None) -> tuple[Any, ...]:
    """In the order of DELIVERY."""
    return (
        new_id(),
        event.account,
        to.endpoint,
        to.url,
        host_of(to.url),
        to.style,
        id_,
        event.type,
        event.task,
        event.batch,
        event.seq,
        "pending",
        0,
        "",
        body,
        Jsonb([]),
        at,
        at,
        False,
    )


class _Receivers:
    """Endpoints of the owners, and the wishes of the tasks and batches themselves."""

    def __init__(self, events: Sequence[NewEvent]) -> None:
        accounts = {event.account for event in events if event.account}
        tasks = {event.task for event in events if event.task and event.seq is not None}
        batches = {event.batch for event in events if event.batch and event.seq is None}
        self.endpoints: dict[UUID, list[Receiver]] = {}
        for id_, account, url, wanted in sql.fetch(ENDPOINTS, [list(accounts)]):
            receiver = Receiver(url, tuple(wanted), endpoint=id_)
            self.endpoints.setdefault(account, []).append(receiver)
        self.tasks = dict(_task_wishes(tasks)) if tasks else {}
        self.batches = dict(_batch_wishes(batches)) if batches else {}

    def of(self, event: NewEvent) -> Iterable[Receiver]:
        if event.account:
            yield from self.endpoints.get(event.account, ())
        own = self.tasks.get(event.task) if event.seq is not None else self.batches.get(event.batch)
        if own:
            yield own


def _task_wishes(tasks: set[UUID]) -> Iterable[tuple[UUID | None, Receiver]]:
    for task, value, batch_url in sql.fetch(WISHES, [list(tasks)]):
        wish = sql.loads(value)
        # A batch's own webhook is told of the batch; of its children only by name.
        default = () if wish["url"] == batch_url else TASK_ENDS
        yield task, _wished(wish, default)


def _batch_wishes(batches: set[UUID]) -> Iterable[tuple[UUID | None, Receiver]]:
    for batch, value in sql.fetch(BATCH_WISHES, [list(batches)]):
        yield batch, _wished(sql.loads(value), BATCH_ENDS)


def _wished(wish: Mapping[str, Any], default: Iterable[str]) -> Receiver:
    wanted = wish.get("events") or default
    return Receiver(wish["url"], tuple(wanted), style=wish.get("style", "native"))


def _key(event: NewEvent) -> tuple[Any, ...]:
    return (event.task, event.seq) if event.seq is not None else (event.batch, event.type)


def _stored(events: Sequence[NewEvent]) -> dict[tuple[Any, ...], tuple[Cursor, Any]]:
    """The public id of each event, and its time."""
    numbered = [(event.task, event.seq) for event in events if event.seq is not None]
    batches = [event.batch for event in events if event.seq is None]
    parameters = [*(sql.columns(numbered) if numbered else ([], [])), batches]
    found = {}
    for id_, xid, floor, at, task, batch, kind, seq in sql.fetch(STORED, parameters):
        cursor = Cursor(xid=xid, id=id_, floor=floor, at=int(at.timestamp()))
        found[(task, seq) if seq is not None else (batch, kind)] = (cursor, at)
    return found


def _bodies(events: Sequence[NewEvent]) -> dict[UUID | None, dict[str, Any]]:
    """Task and batch objects as they are now, by id, without signed URLs."""
    from tasks.render import extras, render_batch, render_task  # it looks at the whole engine

    tasks = Task.objects.filter(
        pk__in=[event.task for event in events if event.task and event.seq is not None]
    )
    more = extras([task.id for task in tasks])
    bodies: dict[UUID | None, dict[str, Any]] = {}
    for task in tasks:
        body = render_task(task, more[task.id])
        bodies[task.id] = {**body, "output": body["output"] and more[task.id].output}
    batches = [event.batch for event in events if event.batch and event.seq is None]
    for batch in Batch.objects.filter(pk__in=batches).select_related("account") if batches else ():
        body = bodies[batch.id] = render_batch(batch)
        kept = extras([UUID(child["id"]) for child in body["tasks"]])
        for child in body["tasks"]:
            child["output"] = child["output"] and kept[UUID(child["id"])].output
    return bodies
