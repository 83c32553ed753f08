"""The ends that are asked for: cancel, expiry, somebody outside decides."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from genpulse.money import to_credits
from tasks.models import ACTIVE, TERMINAL, WAITING, Status
from tasks.moves.base import (
    IN_FLIGHT,
    UNSTARTED,
    AttemptMove,
    Move,
    closed,
    ended,
    error,
    left_running,
    unsuccessful,
)
from tasks.state import AttemptChange, Step, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Move):
    """Somebody wants it stopped. Waiting work ends at once; work in flight is asked to stop."""

    by: str
    code: str = "canceled_by_user"
    message: str = "Canceled on request."

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if task.status in TERMINAL:
            return None
        if task.status in UNSTARTED:
            shown = error("canceled", self.code, self.message)
            return unsuccessful(task, Status.CANCELED, now, shown, closed(task, now, "canceled"))
        if task.cancel_requested:
            return None
        unheld = task.status in {
            Status.AWAITING,
            Status.VERIFYING,
        }  # no worker: the poller acts on it
        return Step(
            task=task.evolve(cancel_requested=True),
            attempt=AttemptChange(number=task.attempt, next_poll_at=now) if unheld else None,
            events=[("task.cancel_requested", {"by": self.by})],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Canceled(AttemptMove):
    """Work in flight has stopped as asked; `late` when the vendor could not be stopped."""

    late: bool = False
    possible_cost: bool = False
    code: str = "canceled_by_user"
    message: str = "Canceled on request."

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, IN_FLIGHT):
            return None
        shown = error("canceled", self.code, self.message)
        return unsuccessful(
            task,
            Status.CANCELED,
            now,
            shown,
            left_running(task, now, "canceled", self.late, self.possible_cost),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expire(Move):
    """Its time to start is over, or it was blocked for too long."""

    code: str
    message: str

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if task.status not in UNSTARTED:
            return None
        if self.code == "start_deadline" and task.started_at is not None:
            return None  # a retry is never ended by start_within
        shown = error("expired", self.code, self.message)
        return unsuccessful(task, Status.EXPIRED, now, shown, closed(task, now, "canceled"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(Move):
    """Somebody outside decides (an operator's `resolve`, a platform's `complete`): whatever ran is fenced off."""

    success: bool
    output: dict[str, Any]
    charge: int = 0
    shown: dict[str, Any] | None = None
    only: frozenset[Status] = ACTIVE | WAITING

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if task.status not in self.only or task.status in TERMINAL:
            return None
        if not self.success:
            shown = self.shown or error("transient", "externally_failed", "Ended by the operator.")
            return unsuccessful(task, Status.FAILED, now, shown, closed(task, now, "failed"))
        charged = min(self.charge, task.quoted)
        return Step(
            task=ended(task, Status.SUCCEEDED, now, charged=charged),
            attempt=closed(task, now, "succeeded"),
            output=self.output,
            usage={},
            events=[
                (
                    "task.succeeded",
                    {
                        "output": self.output,
                        "usage": {},
                        "charged": to_credits(charged),
                        "duration_seconds": None,
                    },
                )
            ],
        )
