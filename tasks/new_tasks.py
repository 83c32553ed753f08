"""How a draft becomes the rows of a new task: its columns, its content and its first event."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from genpulse import sql
from genpulse.events.log import NewEvent
from genpulse.ids import new_id
from genpulse.money import to_credits
from tasks.drafts import Actor, Draft
from tasks.models import Status

TASK = {
    "id": "uuid",
    "account_id": "uuid",
    "key_id": "uuid",
    "batch_id": "uuid",
    "batch_index": "int",
    "superseded": "boolean",
    "route_id": "bigint",
    "family": "text",
    "provider": "text",
    "model": "text",
    "task_type": "text",
    "source": "text",
    "external_id": "text",
    "conversation_id": "text",
    "retry_of": "uuid",
    "cloned_from": "uuid",
    "status": "text",
    "priority": "smallint",
    "ready": "boolean",
    "due_at": "timestamptz",
    "max_attempts": "smallint",
    "stream": "boolean",
    "hold_id": "uuid",
    "quoted": "bigint",
    "run_at": "timestamptz",
    "start_deadline": "timestamptz",
    "complete_by": "timestamptz",
    "timeout": "int",
    "store": "boolean",
    "retention": "int",
    "created_at": "timestamptz",
    "seq": "int",
    "phase": "text",
}
FRESH = {  # columns every new task starts with
    "rank": 0,
    "attempt": 0,
    "tries": 0,
    "here": 0,
    "crashes": 0,
    "alone_crashes": 0,
    "waited": 0,
    "cancel_requested": False,
    "charged": 0,
    "ran": 0,
}
INSERT = (
    f"INSERT INTO tasks_task ({', '.join([*TASK, *FRESH, 'tags'])}) "  # noqa: S608
    f"SELECT {', '.join(TASK)}, {', '.join(str(value).lower() for value in FRESH.values())}, "
    "ARRAY(SELECT jsonb_array_elements_text(tag_list)) FROM "
    + sql.records({**TASK, "tag_list": "jsonb"})
)
CONTENT = {
    "task_id": "uuid",
    "input": "jsonb",
    "options": "jsonb",
    "metadata": "jsonb",
    "prompt": "text",
    "price": "jsonb",
}


class Row:
    """One draft on its way into the tables."""

    def __init__(self, actor: Actor, draft: Draft, batch_id: UUID | None, now: datetime) -> None:
        self.actor, self.draft, self.batch_id, self.now = actor, draft, batch_id, now
        self.id = new_id()
        self.hold_id = new_id() if draft.price else None

    def values(self) -> list[Any]:
        draft, body, target = self.draft, self.draft.body, self.draft.target
        later = body.run_at if body.run_at and body.run_at > self.now else None
        deadline = (later or self.now) + timedelta(seconds=body.start_within or 0)
        known = {
            "id": self.id,
            "account_id": self.actor.account_id,
            "key_id": self.actor.key.id if self.actor.key else None,
            "batch_id": self.batch_id,
            "batch_index": draft.batch_index,
            "superseded": False,
            "route_id": draft.route.id,
            "family": target.family,
            "provider": target.provider,
            "model": target.model,
            "task_type": target.task_type,
            "source": self.actor.source,
            "external_id": draft.external_id,
            "conversation_id": body.conversation_id,
            "retry_of": draft.retry_of,
            "cloned_from": draft.cloned_from,
            "status": Status.QUEUED.value,
            "priority": int(body.priority),
            "ready": later is None,
            "due_at": later,
            "max_attempts": body.max_attempts,
            "stream": body.stream,
            "hold_id": self.hold_id,
            "quoted": draft.price,
            "run_at": later,
            "start_deadline": deadline if body.start_within else None,
            "complete_by": body.complete_by,
            "timeout": draft.timeout,
            "store": body.store,
            "retention": body.retention,
            "created_at": self.now,
            "seq": 1,
            "phase": "",
        }
        return [*(known[name] for name in TASK), Jsonb(body.tags)]

    def content(self) -> tuple[Any, ...]:
        draft = self.draft
        snapshots = {
            target.model or "": quote.snapshot
            for target, quote in zip(draft.targets, draft.quotes, strict=True)
        }
        price = next(iter(snapshots.values())) if len(snapshots) == 1 else {"by_model": snapshots}
        return (
            self.id,
            Jsonb(draft.input),
            Jsonb(options_of(draft)),
            Jsonb(draft.body.metadata),
            draft.prompt,
            Jsonb(price),
        )

    def event(self) -> NewEvent:
        return NewEvent(
            account=self.actor.account_id,
            type="task.queued",
            data={
                "status": "queued",
                "reason": "submitted",
                "price": to_credits(self.draft.price),
            },
            at=self.now,
            task=self.id,
            batch=self.batch_id,
            seq=1,
        )


def options_of(draft: Draft) -> dict[str, Any]:
    """What of the body is not a column, as it was asked; retry and clone start from it."""
    body = draft.body
    kept: dict[str, Any] = {
        "models": body.model if isinstance(body.model, list) else None,
        "provider": body.provider,
        "executor": body.executor if isinstance(body.executor, str) else body.wish.model_dump(),
        "webhook": body.webhook.model_dump() if body.webhook else None,
        "start_within": body.start_within,
        "timeout": body.timeout,
        "max_price": body.max_price,
        "workflow": None,
        "ability": None,
        **draft.extra_options,
    }
    if body.executor is None:
        kept["executor"] = None
    return {name: value for name, value in kept.items() if value is not None}


def insert(rows: Sequence[Row]) -> None:
    sql.execute(INSERT, [sql.dump([*TASK, "tag_list"], (row.values() for row in rows))])
    sql.insert("tasks_taskcontent", CONTENT, [row.content() for row in rows])
