"""Tasks, attempts and contents as rows: how `tasks.lifecycle` reads them under lock and writes them back, set by set."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from genpulse import sql
from tasks import deliveries
from tasks.models import Stage, Status
from tasks.state import MUTABLE, AttemptChange, NewAttempt, Step, TaskState

READ = [field.name for field in fields(TaskState)]
LOCK = (
    f"SELECT {', '.join(READ)}, {deliveries.TASK_IS_WATCHED}, now() FROM tasks_task"  # noqa: S608
    " WHERE id = ANY(%s) ORDER BY id FOR UPDATE"
)
WRITTEN = {"id": "uuid", "old_status": "text", "old_attempt": "int", **MUTABLE}
UPDATE = (
    f"UPDATE tasks_task AS t SET {', '.join(f'{name} = new.{name}' for name in MUTABLE)} FROM "  # noqa: S608
    + sql.records(WRITTEN)
    + " WHERE t.id = new.id AND t.status = new.old_status AND t.attempt = new.old_attempt RETURNING t.id"
)
NEW_ATTEMPT = {
    "task_id": "uuid",
    "number": "int",
    "account_id": "uuid",
    "key_id": "uuid",
    "family": "text",
    "provider": "text",
    "model": "text",
    "executor_id": "uuid",
    "executor": "text",
    "credential_id": "uuid",
    "submit_key": "uuid",
    "alone": "boolean",
    "published_at": "timestamptz",
    "stage": "text",
    "slot": "boolean",
    "worker": "text",
    "progress": "int",
    "phase": "text",
    "external_id": "text",
    "finds": "int",
    "possible_cost": "boolean",
    "late": "boolean",
    "outcome": "text",
    "verdicts": "jsonb",
}
CHANGED = {
    "slot": "boolean",
    "lease_until": "timestamptz",
    "next_poll_at": "timestamptz",
    "stage": "text",
    "worker": "text",
    "finds": "int",
    "external_id": "text",
    "accepted_at": "timestamptz",
    "started_at": "timestamptz",
    "finished_at": "timestamptz",
    "result": "jsonb",
    "vendor_cost": "bigint",
    "possible_cost": "boolean",
    "late": "boolean",
    "outcome": "text",
    "error": "jsonb",
}
ATTEMPT_ROW = {"task_id": "uuid", "number": "int", **CHANGED}
OVERWRITTEN = {"slot", "lease_until", "next_poll_at"}
UPDATE_ATTEMPT = (
    "UPDATE tasks_attempt AS a SET "  # noqa: S608
    + ", ".join(
        f"{name} = new.{name}"
        if name in OVERWRITTEN
        else f"{name} = coalesce(new.{name}, a.{name})"
        for name in CHANGED
    )
    + f" FROM {sql.records(ATTEMPT_ROW)}"
    " WHERE a.task_id = new.task_id AND a.number = new.number"
)
CONTENT_ROW = {"task_id": "uuid", "output": "jsonb", "usage": "jsonb", "error": "jsonb"}
UPDATE_CONTENT = (
    "UPDATE tasks_taskcontent AS c SET output = coalesce(new.output, c.output),"  # noqa: S608
    " usage = coalesce(new.usage, c.usage), error = coalesce(new.error, c.error) FROM "
    + sql.records(CONTENT_ROW)
    + " WHERE c.task_id = new.task_id"
)


@dataclass(frozen=True, slots=True)
class Locked:
    """A task whose row is ours until the transaction ends."""

    task: TaskState
    watched: bool  # a webhook of its own or of its account wants its events
    now: datetime  # the database's clock


def lock(ids: Sequence[UUID]) -> Callable[[], list[Locked]]:
    """Those of `ids` that exist, locked in the order of their ids; inside `sql.together`."""
    found = sql.later(LOCK, [list(ids)])
    return lambda: [Locked(read(row), row[-2], row[-1]) for row in found.rows()]


def read(row: Sequence[Any]) -> TaskState:
    values = dict(zip(READ, row, strict=False))
    values["status"] = Status(values["status"])
    return TaskState(**values)


def update_tasks(
    before: Mapping[UUID, TaskState], after: Mapping[UUID, TaskState]
) -> Callable[[], None]:
    """Write what changed, inside `sql.together`; the check that each row was still as it had been locked."""
    changed = [id_ for id_ in after if after[id_] is not before[id_]]
    rows = [
        (id_, before[id_].status.value, before[id_].attempt, *task_values(after[id_]))
        for id_ in changed
    ]
    written = sql.later(UPDATE, [sql.dump(WRITTEN, rows)])

    def check() -> None:
        if len(written.rows()) != len(rows):
            raise AssertionError("a row under lock changed")

    return check


def task_values(task: TaskState) -> list[Any]:
    """In the order of MUTABLE."""
    return [task.status.value, *(getattr(task, name) for name in list(MUTABLE)[1:])]


def write_attempts(steps: Sequence[Step]) -> None:
    """Insert new attempts; several steps of one attempt are merged, in order, to one update."""
    new = [(step.task, step.new_attempt) for step in steps if step.new_attempt]
    sql.insert("tasks_attempt", NEW_ATTEMPT, [attempt_row(task, made) for task, made in new])
    merged: dict[tuple[UUID, int], dict[str, Any]] = defaultdict(dict)
    for step in steps:
        if step.attempt:
            merged[(step.task.id, step.attempt.number)].update(change_values(step.attempt))
    if merged:
        rows = [(*key, *(values.get(name) for name in CHANGED)) for key, values in merged.items()]
        sql.execute(UPDATE_ATTEMPT, [sql.dump(ATTEMPT_ROW, rows)])


def update_contents(steps: Sequence[Step]) -> None:
    rows = [
        (step.task.id, step.output, step.usage, step.error)
        for step in steps
        if step.output is not None or step.usage is not None or step.error is not None
    ]
    if rows:
        sql.execute(UPDATE_CONTENT, [sql.dump(CONTENT_ROW, rows)])


def attempt_row(task: TaskState, made: NewAttempt) -> tuple[Any, ...]:
    """In the order of NEW_ATTEMPT."""
    return (
        task.id,
        made.number,
        task.account_id,
        task.key_id,
        task.family,
        task.provider,
        task.model,
        made.executor_id,
        made.executor,
        made.credential_id,
        made.submit_key,
        made.alone,
        made.published_at,
        Stage.ADMITTED.value,
        True,
        "",
        0,
        "",
        "",
        0,
        False,
        False,
        "",
        made.verdicts,
    )


def change_values(change: AttemptChange) -> dict[str, Any]:
    """The columns a change touches; what it keeps is left out."""
    values = {name: getattr(change, name) for name in CHANGED}
    values["stage"] = change.stage.value if change.stage else None
    return {
        name: value for name, value in values.items() if name in OVERWRITTEN or value is not None
    }
