"""The task and batch objects of the native API, from rows. Signed URLs are made here, at read, and nowhere stored."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import Any
from uuid import UUID

from genpulse import sql
from genpulse.http.parsing import render_time
from genpulse.money import to_credits
from media import services as media
from tasks import insight
from tasks.models import TERMINAL, WAITING, Batch, Priority, Status, Task
from tasks.state import batch_outcome

PRIORITY_NAMES = {
    Priority.CRITICAL: "critical",
    Priority.DEFAULT: "default",
    Priority.LOW: "low",
}
MORE = """
c.task_id, c.input, c.options, c.metadata, c.output, c.usage, c.error, account.name AS account,
a.progress, a.phase AS attempt_phase, a.stage,
CASE WHEN %s AND t.status = 'queued' AND t.ready THEN (SELECT count(*) FROM (
  SELECT 1 FROM tasks_task w WHERE w.status = 'queued' AND w.ready AND w.route_id = t.route_id
  AND w.priority = t.priority AND w.account_id = t.account_id AND (w.rank, w.id) < (t.rank, t.id)
  LIMIT 1000) AS counted) END AS ahead
FROM tasks_taskcontent c JOIN tasks_task t ON t.id = c.task_id
JOIN accounts_account account ON account.id = t.account_id
LEFT JOIN tasks_attempt a ON a.task_id = t.id AND a.number = t.attempt
WHERE c.task_id = ANY(%s)
"""
EXTRAS = "SELECT " + MORE
COLUMNS = [field.attname for field in Task._meta.concrete_fields]
WHOLE = f"SELECT {', '.join(f't.{name}' for name in COLUMNS)}, {MORE}"
JSON = frozenset({"input", "options", "metadata", "output", "usage", "error"})
PHASES = {
    Status.QUEUED: "waiting for its turn",
    Status.BLOCKED: "nobody can serve it now",
    Status.ADMITTED: "on its way to a worker",
    Status.RUNNING: "running",
    Status.AWAITING: "working at the provider",
    Status.VERIFYING: "finding out whether the provider accepted it",
    Status.SUCCEEDED: "done",
    Status.FAILED: "failed",
    Status.CANCELED: "canceled",
    Status.EXPIRED: "expired",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """The bodies of a task and what its present attempt says."""

    task_id: UUID
    input: dict[str, Any] | None
    options: dict[str, Any]
    metadata: dict[str, Any]
    output: dict[str, Any] | None
    usage: dict[str, Any] | None
    error: dict[str, Any] | None
    account: str
    progress: int | None
    attempt_phase: str | None
    stage: str | None
    ahead: int | None  # tasks before it in its own lane


def extras(ids: Sequence[UUID], *, places: bool = True) -> dict[UUID, Extras]:
    """One query for all; `places`: count who is before those that wait."""
    rows = sql.fetch(EXTRAS, [places, list(ids)])
    return {row[0]: _extras(row) for row in rows}


def _extras(row: Sequence[Any]) -> Extras:
    named = zip((field.name for field in fields(Extras)), row, strict=True)
    return Extras(**{name: sql.loads(value) if name in JSON else value for name, value in named})


Whole = tuple[Task, Extras]


def whole(task_id: UUID) -> Whole:
    """A task that exists, with its extras: one query."""
    return ask(task_id)()


def ask(task_id: UUID) -> Callable[[], Whole]:
    """Send the question for `whole`; what reads the answer."""
    asked = sql.later(WHOLE, [True, [task_id]])

    def read() -> Whole:
        [row] = asked.rows()
        return Task.from_db(None, COLUMNS, row[: len(COLUMNS)]), _extras(row[len(COLUMNS) :])

    return read


def render_tasks(
    tasks: Sequence[Task], *, admin: bool = False, places: bool = True
) -> list[dict[str, Any]]:
    """Task objects in the order of `tasks`; two queries however many."""
    more = extras([task.id for task in tasks], places=places)
    return [render_task(task, more[task.id], admin=admin) for task in tasks]


def render_task(task: Task, more: Extras, *, admin: bool = False) -> dict[str, Any]:
    """The task object of the contract. `admin` adds the vendor's cost."""
    return shown(plain_task(task, more), admin=admin)


def shown(plain: dict[str, Any], *, admin: bool) -> dict[str, Any]:
    """A `plain_task` as its reader may see it; URLs are signed now."""
    price = plain["price"]
    if not admin:
        price = {name: price[name] for name in ("quoted", "held", "charged")}
    return {**plain, "output": signed(plain["output"]), "price": price}


def plain_task(task: Task, more: Extras) -> dict[str, Any]:
    """The task object as it may be kept for a while: assets without URLs, the price with the vendor's cost."""
    status = Status(task.status)
    terminal = status in TERMINAL
    said = insight.said(task, more.ahead)
    return {
        "id": str(task.id),
        "object": "task",
        "status": status.value,
        "terminal": terminal,
        "phase": said.phase or phase_of(task, more),
        "progress": progress_of(task, more),
        "position": said.position,
        "eta": said.eta,
        "source": task.source,
        "user": more.account,
        "key_id": text(task.key_id),
        "model": task.model,
        "models": more.options.get("models"),
        "provider": task.provider,
        "family": task.family,
        "task_type": task.task_type,
        "workflow": more.options.get("workflow"),
        "ability": more.options.get("ability"),
        "executor": task.executor,
        "priority": PRIORITY_NAMES[Priority(task.priority)],
        "batch_id": text(task.batch_id),
        "index": task.batch_index,
        "conversation_id": task.conversation_id,
        "retry_of": text(task.retry_of),
        "cloned_from": text(task.cloned_from),
        "attempt": task.attempt,
        "tries": task.tries,
        "max_attempts": task.max_attempts,
        "cancel_requested": task.cancel_requested,
        "input": more.input,
        "output": more.output if status == Status.SUCCEEDED else None,
        "usage": more.usage,
        "error": more.error if terminal and status != Status.SUCCEEDED else None,
        "sandbox": task.provider == "sandbox",
        "stored": task.store,
        "purged": task.purged_at is not None,
        "price": price_of(task),
        "metadata": more.metadata,
        "tags": task.tags,
        "webhook": webhook_of(more.options),
        **times_of(task),
        "seq": task.seq,
        "urls": urls_of(task.id),
    }


def webhook_of(options: Mapping[str, Any]) -> dict[str, Any] | None:
    """As it was asked for, without what only the sender needs to know."""
    wish = options.get("webhook")
    return wish and {name: wish.get(name) for name in ("url", "events")}


def times_of(task: Task) -> dict[str, Any]:
    names = (
        "run_at",
        "start_deadline",
        "run_deadline",
        "complete_by",
        "created_at",
        "admitted_at",
        "started_at",
        "finished_at",
    )
    return {
        "retention": task.retention,
        **{name: render_time(getattr(task, name)) for name in names},
        "duration_seconds": duration_of(task),
    }


def duration_of(task: Task) -> float | None:
    """Seconds of the last attempt, queueing excluded."""
    if task.started_at is None or task.finished_at is None:
        return None
    return round((task.finished_at - task.started_at) / timedelta(seconds=1), 3)


def price_of(task: Task) -> dict[str, Any]:
    cost = task.vendor_cost
    return {
        "quoted": to_credits(task.quoted),
        "held": to_credits(task.quoted if task.status not in TERMINAL else 0),
        "charged": to_credits(task.charged),
        "vendor_cost": None if cost is None else to_credits(cost),
    }


def progress_of(task: Task, more: Extras) -> int:
    if task.status == Status.SUCCEEDED:
        return 100
    return min(more.progress or 0, 99)


def phase_of(task: Task, more: Extras) -> str:
    """One sentence, never empty."""
    status = Status(task.status)
    if status == Status.QUEUED and not task.ready:
        return f"waiting until {render_time(task.due_at)}"
    if status in WAITING or status in TERMINAL or not more.attempt_phase:
        return task.phase or PHASES[status]
    return task.phase or more.attempt_phase


def urls_of(task_id: UUID) -> dict[str, str]:
    self_ = f"/api/v1/tasks/{task_id}"
    return {
        "self": self_,
        "events": f"{self_}/events",
        "cancel": f"{self_}/cancel",
        "explain": f"{self_}/explain",
    }


def text(value: UUID | None) -> str | None:
    return None if value is None else str(value)


def signed(output: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An output with fresh URLs for its assets."""
    if output is None:
        return None
    return {**output, "assets": [media.with_url(asset) for asset in output.get("assets", [])]}


def render_batch(batch: Batch) -> dict[str, Any]:
    """The batch object; counts, progress and prices are read, never kept."""
    children = list(Task.objects.filter(batch=batch, superseded=False).order_by("batch_index"))
    tasks = render_tasks(children, places=False)
    counts = {status.value: 0 for status in Status}
    for child in children:
        counts[child.status] += 1
    open_ = sum(child.status not in TERMINAL for child in children)
    return {
        "id": str(batch.id),
        "object": "batch",
        "status": batch_status(counts, open_, batch.winner_id),
        "terminal": open_ == 0,
        "mode": batch.mode,
        "title": batch.title,
        "source": batch.source,
        "user": batch.account.name,
        "total": batch.total,
        "counts": counts,
        "progress": sum(task["progress"] for task in tasks) // max(len(tasks), 1),
        "tasks": [{name: task[name] for name in CHILD} for task in tasks],
        "winner_task_id": text(batch.winner_id),
        "cancel_requested": batch.cancel_requested,
        "price": {
            "quoted": to_credits(sum(child.quoted for child in children)),
            "held": to_credits(sum(c.quoted for c in children if c.status not in TERMINAL)),
            "charged": to_credits(sum(child.charged for child in children)),
        },
        "metadata": batch.metadata,
        "tags": batch.tags,
        "webhook": batch.webhook,
        "created_at": render_time(batch.created_at),
        "finished_at": render_time(batch.finished_at),
        "urls": {
            "self": f"/api/v1/batches/{batch.id}",
            "events": f"/api/v1/batches/{batch.id}/events",
            "cancel": f"/api/v1/batches/{batch.id}/cancel",
        },
    }


CHILD = (
    "id",
    "index",
    "status",
    "terminal",
    "progress",
    "model",
    "error",
    "price",
    "duration_seconds",
    "output",
)


def batch_status(counts: Mapping[str, int], open_: int, winner: UUID | None) -> str:
    return "processing" if open_ else batch_outcome(Counter(counts), winner)
