"""What all moves share: the class, the fence, and how a task or an attempt comes to its end."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from genpulse.config import config
from genpulse.http.parsing import render_time
from genpulse.money import to_credits
from tasks.models import ACTIVE, WAITING, Stage, Status
from tasks.state import AttemptChange, Step, TaskState

IN_FLIGHT = frozenset({Status.RUNNING, Status.AWAITING, Status.VERIFYING})
UNSTARTED = WAITING | {Status.ADMITTED}


def error(kind: str, code: str, message: str, *, retryable: bool = True) -> dict[str, Any]:
    """An error object for ends that no provider caused."""
    return {
        "kind": kind,
        "code": code,
        "message": message,
        "retryable": retryable,
        "provider": None,
    }


def after(now: datetime, seconds: float) -> datetime:
    return now + timedelta(seconds=seconds)


def clock_stopped(task: TaskState, now: datetime) -> TaskState:
    """The run clock counts running and awaiting, up to the vendor's answer, over all attempts."""
    if task.run_deadline is None or task.started_at is None:
        return task
    return task.evolve(ran=task.ran + (now - task.started_at).total_seconds(), run_deadline=None)


def purge_time(task: TaskState, now: datetime) -> datetime | None:
    """When the bodies and results of a task that ends now are removed."""
    if not task.store:
        return after(now, config.store_false_ttl)
    keep = task.retention or config.result_retention
    return after(now, keep) if keep else None


def ended(task: TaskState, status: Status, now: datetime, **changes: Any) -> TaskState:
    return clock_stopped(task, now).evolve(
        status=status,
        finished_at=now,
        purge_at=purge_time(task, now),
        ready=False,
        due_at=None,
        phase="",
        **changes,
    )


def unsuccessful(
    task: TaskState,
    status: Status,
    now: datetime,
    shown: dict[str, Any],
    attempt: AttemptChange | None = None,
) -> Step:
    """failed, canceled or expired: the hold goes back."""
    return Step(
        task=ended(task, status, now),
        events=[(f"task.{status.value}", {"error": shown, "released": to_credits(task.quoted)})],
        error=shown,
        attempt=attempt,
    )


def closed(task: TaskState, now: datetime, outcome: str, **changes: Any) -> AttemptChange | None:
    """The present attempt ends with its task; None when there never was one."""
    if not task.attempt or task.status not in ACTIVE:
        return None
    return AttemptChange(
        number=task.attempt,
        stage=Stage.CLOSED,
        slot=False,
        outcome=outcome,
        finished_at=now,
        **changes,
    )


def left_running(
    task: TaskState, now: datetime, outcome: str, late: bool, possible_cost: bool = False
) -> AttemptChange | None:
    """Close the attempt; one the vendor still works on goes on being polled, for its cost only."""
    if not late:
        return closed(task, now, outcome, possible_cost=possible_cost or None)
    return AttemptChange(
        number=task.attempt,
        stage=Stage.ACCEPTED,
        slot=False,
        late=True,
        possible_cost=True,
        outcome=outcome,
        next_poll_at=after(now, 2),
    )


def requeued(task: TaskState, now: datetime, delay: float = 0.0, **changes: Any) -> TaskState:
    return clock_stopped(task, now).evolve(
        status=Status.QUEUED,
        ready=delay <= 0,
        due_at=after(now, delay) if delay > 0 else None,
        cancel_requested=False,
        phase="",
        **changes,
    )


def queued_event(task: TaskState, reason: str) -> tuple[str, dict[str, Any]]:
    data: dict[str, Any] = {"status": "queued", "reason": reason}
    if task.due_at:
        data["retry_at"] = render_time(task.due_at)
    return ("task.queued", data)


def added(total: int | None, more: int | None) -> int | None:
    return total if more is None else (total or 0) + more


def duration(task: TaskState) -> float | None:
    """Seconds of the last attempt, without queueing."""
    if task.started_at is None or task.finished_at is None:
        return None
    return round((task.finished_at - task.started_at).total_seconds(), 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One wish for one task."""

    task_id: UUID

    def step(self, task: TaskState, now: datetime) -> Step | None:
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptMove(Move):
    """A wish of whoever holds an attempt; the number is the fencing token."""

    attempt: int

    def holds(self, task: TaskState, statuses: frozenset[Status]) -> bool:
        return task.attempt == self.attempt and task.status in statuses
