"""What may be done with tasks that exist: find, cancel, retry, clone, promote, hide."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction

from genpulse import sql
from genpulse.errors import (
    NotFound,
    NothingToRetry,
    NotRetryable,
    NotWaiting,
    Purged,
    ValidationFailed,
)
from genpulse.http.parsing import parse
from genpulse.money import to_credits
from media import services as media
from tasks import drafts, snapshots
from tasks.drafts import Actor
from tasks.lifecycle import Applied, apply
from tasks.models import TERMINAL, Batch, Status, Task, TaskContent
from tasks.moves import Cancel, Move, Promote
from tasks.requests import TaskBody
from tasks.services import write

MAX_PER_VERB = 1000
KEPT_BY_RETRY = ("ability", "points", "dialect", "webhook", "turn", "context")


def owned(account_id: UUID | None, task_id: UUID) -> Task:
    """The task, if it is this account's (None: anybody's). Raises NotFound."""
    tasks = Task.objects.filter(pk=task_id, hidden_at=None)
    task = (tasks if account_id is None else tasks.filter(account_id=account_id)).first()
    if task is None:
        raise NotFound
    return task


def cancel(task_ids: Sequence[UUID], *, by: str) -> list[Applied]:
    """Waiting tasks end now, work in flight is asked to stop, ended ones stay. Idempotent."""
    return apply([Cancel(task_id=id_, by=by) for id_ in task_ids])


def promote(task: Task, *, by: str) -> None:
    """To the head of its own user's line. Raises NotWaiting."""
    [done] = apply([Promote(task_id=task.id, by=by, rank=-time.time_ns() // 1000)])
    if not done.ok:
        raise NotWaiting("Only queued tasks can be promoted.", status_now=task.status)


def asked(task: Task, content: TaskContent) -> dict[str, Any]:
    """The body that would make this task again, without what was tied to its time. Raises Purged."""
    if task.purged_at or content.input is None:
        raise Purged("The input of this task was removed.")
    options = content.options
    values: dict[str, Any] = {
        **_target(task, options),
        "provider": options.get("provider"),
        "task_type": task.task_type,
        "input": content.input,
        "priority": {0: "critical", 1: "default", 2: "low"}[task.priority],
        "webhook": plain_webhook(options.get("webhook")),
        "metadata": content.metadata,
        "tags": task.tags,
        "start_within": options.get("start_within"),
        "timeout": options.get("timeout"),
        "max_price": to_credits(options["max_price"]) if "max_price" in options else None,
        "max_attempts": task.max_attempts,
        "executor": options.get("executor"),
        "store": task.store,
        "retention": task.retention,
        "stream": task.stream,
        "conversation_id": task.conversation_id if task.task_type == "chat" else None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _target(task: Task, options: dict[str, Any]) -> dict[str, Any]:
    """A workflow is asked for by its id: the same version again."""
    workflow = options.get("workflow")
    if workflow and task.model == f"{workflow['name']}@{workflow['version']}":
        return {"workflow": workflow["id"]}
    return {"model": options.get("models") or task.model}


def plain_webhook(kept: dict[str, Any] | None) -> dict[str, Any] | None:
    """As the native body takes it; what a dialect adds stays with the task."""
    return {name: kept[name] for name in ("url", "events") if name in kept} if kept else None


def resolve(task: Task, move: Move) -> None:
    """End an uncertainty. Raises NotWaiting unless the task is verifying."""
    if task.status != Status.VERIFYING or not apply([move])[0].ok:
        raise NotWaiting("Only verifying tasks can be resolved.", status_now=task.status)


def open_retry(task: Task) -> UUID | None:
    """The retry of this task that has not ended yet."""
    rows = sql.fetch(
        "SELECT id FROM tasks_task WHERE retry_of = %s AND finished_at IS NULL ORDER BY id LIMIT 1",
        [task.id],
    )
    return rows[0][0] if rows else None


def retry(actor: Actor, task: Task) -> tuple[UUID, bool]:
    """A new task with the same input, in the old one's place of its batch; (id, made now).

    Of parallel retries one makes it and the others answer it. Raises NotRetryable, Purged and what submit raises.
    """
    if task.status not in TERMINAL or task.status == Status.SUCCEEDED:
        raise NotRetryable("Only failed, canceled and expired tasks.", status_now=task.status)
    content = TaskContent.objects.get(pk=task.id)
    made = drafts.draft(actor, parse(TaskBody, asked(task, content)))
    made.retry_of, made.batch_index = task.id, task.batch_index
    made.body = made.body.model_copy(update={"conversation_id": task.conversation_id})
    made.extra_options |= {k: v for k, v in content.options.items() if k in KEPT_BY_RETRY}
    with transaction.atomic():
        Task.objects.select_for_update().get(pk=task.id)
        existing = open_retry(task)
        if existing:
            return existing, False
        Task.objects.filter(pk=task.id).update(superseded=True)
        [new] = write(actor, [made], joins=task.batch_id)
    return new, True


def retry_failed(actor: Actor, batch: Batch) -> int:
    """New tasks for the failed, canceled and expired children; how many were made. Raises NothingToRetry."""
    if batch.winner_id:
        raise ValidationFailed.of("mode", "choice", "the race has a winner")
    children = Task.objects.filter(batch=batch, superseded=False)
    failed = list(children.filter(status__in=TERMINAL - {Status.SUCCEEDED}).order_by("batch_index"))
    if not failed and not children.filter(retry_of__isnull=False, finished_at=None).exists():
        raise NothingToRetry("No child of this batch has failed.")
    return sum(retry(actor, task)[1] for task in failed)


def hide(task: Task, *, by: str) -> None:
    """Cancel it if need be, then take it and its result assets out of every list. Ledger rows stay."""
    cancel([task.id], by=by)
    with transaction.atomic():
        sql.execute("UPDATE tasks_task SET hidden_at = now() WHERE id = %s", [task.id])
        assets = list(media.Asset.objects.filter(task_id=task.id, deleted_at=None))
        media.purge(assets)
        transaction.on_commit(partial(snapshots.forget, task.id), robust=True)
