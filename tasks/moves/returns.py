"""The ways back to the queue: an error, a hand-back, a worker that died."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from genpulse.http.parsing import render_time
from tasks.models import Stage, Status
from tasks.moves.base import (
    IN_FLIGHT,
    AttemptMove,
    closed,
    error,
    queued_event,
    requeued,
    unsuccessful,
)
from tasks.moves.ends import Canceled
from tasks.moves.unknown import Unknown
from tasks.policy import Fault, Verdict, decide
from tasks.state import POISON_AFTER, AttemptChange, Step, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailed(AttemptMove):
    """An attempt ended with an error; `policy.decide` says what follows.

    `failover_route` and `failover_model` are where the task goes when it must leave this executor; None: there is
    nowhere else. `cooled`: a cooldown does the waiting.
    """

    fault: Fault
    cooled: bool = False
    failover_route: int | None = None
    failover_model: str | None = None
    jitter: float = 0.0
    external_id: str = ""

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, IN_FLIGHT | {Status.ADMITTED}):
            return None
        if task.cancel_requested:
            return Canceled(task_id=self.task_id, attempt=self.attempt).step(task, now)
        verdict = decide(
            self.fault,
            tries=task.tries,
            here=task.here,
            max_attempts=task.max_attempts,
            waited=task.waited,
            jitter=self.jitter,
        )
        if verdict.next == "verify":
            return Unknown(task_id=self.task_id, attempt=self.attempt, fault=self.fault).step(
                task, now
            )
        return (
            self._stop(task, verdict, now)
            if verdict.next == "stop"
            else self._again(task, verdict, now)
        )

    def _stop(self, task: TaskState, verdict: Verdict, now: datetime) -> Step:
        shown = self.fault.shown(verdict.code)
        step = unsuccessful(
            task.evolve(tries=task.tries + verdict.counts),
            Status.FAILED,
            now,
            shown,
            self._closed(task, now),
        )
        step.events.insert(0, self._event(task, verdict, None))
        return step

    def _again(self, task: TaskState, verdict: Verdict, now: datetime) -> Step:
        leaving = verdict.next == "failover" and self.failover_route is not None
        new = requeued(
            task,
            now,
            0.0 if leaving or (self.cooled and verdict.waits) else verdict.delay,
            tries=task.tries + verdict.counts,
            here=0 if leaving else task.here + verdict.counts,
            waited=task.waited + verdict.waits,
            route_id=self.failover_route if leaving else task.route_id,
            model=self.failover_model if leaving and self.failover_model else task.model,
        )
        return Step(
            task=new,
            attempt=self._closed(task, now),
            events=[
                self._event(task, verdict, new.due_at),
                queued_event(new, verdict.next),
            ],
        )

    def _closed(self, task: TaskState, now: datetime) -> AttemptChange:
        return AttemptChange(
            number=self.attempt,
            stage=Stage.CLOSED,
            slot=False,
            outcome="failed",
            finished_at=now,
            error=self.fault.shown(),
            possible_cost=self.fault.possible_cost or None,
        )

    def _event(
        self, task: TaskState, verdict: Verdict, retry_at: datetime | None
    ) -> tuple[str, dict[str, Any]]:
        return (
            "task.attempt_failed",
            {
                "attempt": self.attempt,
                "executor": task.executor,
                "error": self.fault.shown(),
                "next": verdict.next,
                "retry_at": render_time(retry_at),
            },
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class HandBack(AttemptMove):
    """A worker that stops, or refuses for reasons of its own, gives back what it has not sent. Counts nothing."""

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, frozenset({Status.ADMITTED, Status.RUNNING})):
            return None
        if task.cancel_requested:
            return Canceled(task_id=self.task_id, attempt=self.attempt).step(task, now)
        new = requeued(task, now)
        return Step(
            task=new,
            attempt=closed(task, now, "replaced"),
            events=[queued_event(new, "retry")],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseLost(AttemptMove):
    """Its worker died or froze. What follows depends on how far the attempt had got.

    `resend`: the provider allows a submit of unknown outcome to be repeated (same key, or free of charge).
    """

    stage: Stage
    alone: bool
    resend: bool

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, frozenset({Status.RUNNING})):
            return None
        task = task.evolve(
            crashes=task.crashes + (not self.alone),
            alone_crashes=task.alone_crashes + self.alone,
        )
        if task.alone_crashes >= POISON_AFTER:
            shown = error("transient", "poison_task", "Workers died under this task each time.")
            return unsuccessful(task, Status.FAILED, now, shown, closed(task, now, "failed"))
        if self.stage == Stage.SENDING and not self.resend:
            fault = Fault(
                kind="unknown_outcome", message="The worker died while the request was on its way."
            )
            return Unknown(task_id=self.task_id, attempt=self.attempt, fault=fault).step(task, now)
        if task.cancel_requested:
            return Canceled(task_id=self.task_id, attempt=self.attempt).step(task, now)
        new = requeued(task, now)
        return Step(
            task=new,
            attempt=closed(task, now, "replaced"),
            events=[queued_event(new, "retry")],
        )
