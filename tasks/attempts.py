"""Attempts as the API shows them."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from admin_integrations.models import Credential
from genpulse.http.parsing import render_time
from genpulse.money import to_credits
from tasks.models import Attempt, Stage, Status, Task

# What an attempt without an outcome is called, by the status of its task.
PRESENT = {Status.AWAITING: "awaiting", Status.VERIFYING: "verifying"}


def render_attempts(
    attempts: Sequence[Attempt], *, admin: bool, of_tasks: bool = False
) -> list[dict[str, Any]]:
    """`of_tasks`: with the id and owner of their tasks, for lists over all of them."""
    ids = {attempt.task_id for attempt in attempts}
    tasks = Task.objects.select_related("account").in_bulk(ids)
    keys = Credential.objects.in_bulk({a.credential_id for a in attempts if a.credential_id})
    return [
        {
            **(_of(tasks[attempt.task_id]) if of_tasks else {}),
            **_common(attempt, tasks[attempt.task_id]),
            **(_for_operators(attempt, keys.get(attempt.credential_id)) if admin else {}),
        }
        for attempt in attempts
    ]


def _of(task: Task) -> dict[str, Any]:
    return {"task_id": str(task.id), "user": task.account.name}


def _common(attempt: Attempt, task: Task) -> dict[str, Any]:
    seconds = None
    if attempt.started_at and attempt.finished_at:
        seconds = round((attempt.finished_at - attempt.started_at) / timedelta(seconds=1), 3)
    return {
        "number": attempt.number,
        "executor": attempt.executor,
        "provider": attempt.provider,
        "model": attempt.model,
        "status": attempt.outcome or _present(attempt, task),
        "started_at": render_time(attempt.started_at),
        "finished_at": render_time(attempt.finished_at),
        "duration_seconds": seconds,
        "error": attempt.error,
        "external_id": attempt.external_id or None,
    }


def _present(attempt: Attempt, task: Task) -> str:
    if attempt.number != task.attempt:
        return "replaced"
    if attempt.stage in {
        Stage.DONE,
        Stage.STORED,
    }:  # the vendor is done, its answer is being stored
        return "running"
    return PRESENT.get(Status(task.status), "running")


def _for_operators(attempt: Attempt, key: Credential | None) -> dict[str, Any]:
    cost = attempt.vendor_cost
    return {
        "credential": key.name if key else None,
        "lease_until": render_time(attempt.lease_until),
        "vendor_cost": None if cost is None else to_credits(cost),
        "possible_cost": attempt.possible_cost,
        "late": attempt.late,
    }
