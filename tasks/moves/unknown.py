"""Nobody knows whether the vendor took it: look it up, wait, send again only when that is safe, give up."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from genpulse.config import config
from tasks.models import Stage, Status
from tasks.moves.base import (
    IN_FLIGHT,
    AttemptMove,
    after,
    clock_stopped,
    closed,
    left_running,
    queued_event,
    requeued,
    unsuccessful,
)
from tasks.moves.ends import Canceled
from tasks.policy import Fault
from tasks.state import AttemptChange, Step, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(AttemptMove):
    """running -> verifying: nobody knows whether the vendor took it. The hold stays, nothing is sent."""

    fault: Fault

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, frozenset({Status.RUNNING, Status.AWAITING})):
            return None
        return Step(
            task=clock_stopped(task, now).evolve(status=Status.VERIFYING),
            attempt=AttemptChange(
                number=self.attempt,
                stage=Stage.SENDING,
                error=self.fault.shown(),
                finds=0,
                next_poll_at=after(now, config.find_delays[0]),
            ),
            events=[
                (
                    "task.verifying",
                    {
                        "executor": task.executor,
                        "attempt": self.attempt,
                        "reason": self.fault.message,
                    },
                )
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StillUnknown(AttemptMove):
    """A look-up could not tell; look again later."""

    finds: int
    next_in: float

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, frozenset({Status.VERIFYING})):
            return None
        return Step(
            task=task,
            attempt=AttemptChange(
                number=self.attempt,
                stage=Stage.SENDING,
                finds=self.finds,
                next_poll_at=after(now, self.next_in),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend(AttemptMove):
    """verifying -> queued: the vendor does not have it (or the operator says so), so it may be sent again."""

    possible_cost: bool = False

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, frozenset({Status.VERIFYING})):
            return None
        if task.cancel_requested:
            return Canceled(task_id=self.task_id, attempt=self.attempt).step(task, now)
        new = requeued(task, now)
        return Step(
            task=new,
            attempt=closed(task, now, "replaced", possible_cost=self.possible_cost or None),
            events=[queued_event(new, "retry")],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp(AttemptMove):
    """A task whose outcome stays unknown, whose time is up, or whose result is gone: failed, hold released."""

    shown: dict[str, Any]
    possible_cost: bool = False
    late: bool = False  # the vendor still has the job: watch it for its cost

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, IN_FLIGHT):
            return None
        return unsuccessful(
            task,
            Status.FAILED,
            now,
            self.shown,
            left_running(task, now, "failed", self.late, self.possible_cost),
        )
