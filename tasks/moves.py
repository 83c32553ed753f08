"""The state machine: every way a task can change, as pure functions of its row.

A move names its task and, where a worker or a timer speaks, the attempt it speaks for. `step` returns the whole
effect, or None when the move does not fit any more ("you were replaced", "it ended meanwhile"); nothing else fences.
Reading order: helpers, the road to success, the ways back to the queue, the unknown, the ends.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from genpulse.config import config
from genpulse.money import to_credits
from tasks.models import ACTIVE, TERMINAL, WAITING, Stage, Status
from tasks.policy import Fault, Verdict, decide
from tasks.state import POISON_AFTER, AttemptChange, NewAttempt, Step, TaskState

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


# --- The road to success


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit(Move):
    """queued -> admitted: it gets a slot and an attempt of its own."""

    executor_id: UUID
    executor: str
    credential_id: UUID | None = None
    alone: bool = False
    verdicts: list[dict[str, Any]] | None = None  # why here, for `explain`

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if task.status != Status.QUEUED or not task.ready:
            return None
        number = task.attempt + 1
        here = task.here if task.executor_id == self.executor_id else 0
        new = task.evolve(
            status=Status.ADMITTED,
            attempt=number,
            here=here,
            executor_id=self.executor_id,
            executor=self.executor,
            admitted_at=now,
            rank=0,
            phase="",
        )
        return Step(
            task=new,
            new_attempt=NewAttempt(
                number=number,
                executor_id=self.executor_id,
                executor=self.executor,
                credential_id=self.credential_id,
                # Stable over attempts: a vendor that knows the key never makes the job twice.
                submit_key=uuid5(task.id, "submit"),
                alone=self.alone,
                published_at=now,
                verdicts=self.verdicts,
            ),
            events=[("task.admitted", {"executor": self.executor, "attempt": number})],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Start(AttemptMove):
    """admitted -> running: a worker claims it. Only one claim of an attempt can win."""

    worker: str

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, frozenset({Status.ADMITTED})):
            return None
        return Step(
            task=task.evolve(
                status=Status.RUNNING,
                started_at=now,
                run_deadline=after(now, max(task.timeout - task.ran, 0)),
            ),
            attempt=AttemptChange(
                number=self.attempt,
                stage=Stage.CLAIMED,
                worker=self.worker,
                started_at=now,
                lease_until=after(now, config.lease_seconds),
            ),
            events=[("task.running", {"executor": task.executor, "attempt": self.attempt})],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sending(AttemptMove):
    """The first byte of a paid request is about to leave: from here on nothing is sent again blindly."""

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, frozenset({Status.RUNNING})):
            return None
        return Step(
            task=task,
            attempt=AttemptChange(
                number=self.attempt,
                stage=Stage.SENDING,
                lease_until=after(now, config.lease_seconds),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Accept(AttemptMove):
    """running or verifying -> awaiting: the vendor has the job; no thread is held any more."""

    external_id: str
    poll_after: float

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, frozenset({Status.RUNNING, Status.VERIFYING})):
            return None
        # A cancel that was asked for meanwhile is the poller's: it must look at once.
        wait = 0.0 if task.cancel_requested else self.poll_after
        return Step(
            task=task.evolve(status=Status.AWAITING),
            attempt=AttemptChange(
                number=self.attempt,
                stage=Stage.ACCEPTED,
                external_id=self.external_id,
                accepted_at=now,
                next_poll_at=after(now, wait),
            ),
            events=[
                (
                    "task.awaiting",
                    {
                        "executor": task.executor,
                        "attempt": self.attempt,
                        "external_id": self.external_id,
                    },
                )
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Done(AttemptMove):
    """The vendor's answer is here and committed: slots are free, only storing is left."""

    result: dict[str, Any]
    vendor_cost: int | None = None

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, IN_FLIGHT):
            return None
        status = Status.AWAITING if task.status == Status.VERIFYING else task.status
        return Step(
            task=clock_stopped(task, now).evolve(
                status=status,
                phase="storing",
                vendor_cost=added(task.vendor_cost, self.vendor_cost),
            ),
            attempt=AttemptChange(
                number=self.attempt,
                stage=Stage.DONE,
                slot=False,
                result=self.result,
                vendor_cost=self.vendor_cost,
                finished_at=now,
                # The fetch is published after the commit; this is the second call should it get lost.
                next_poll_at=after(now, config.republish_seconds),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageDown(AttemptMove):
    """Storing did not work: keep the answer and try again later, never generate again."""

    retry_in: float

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, IN_FLIGHT):
            return None
        return Step(
            task=task.evolve(phase="storage unavailable"),
            attempt=AttemptChange(
                number=self.attempt,
                stage=Stage.DONE,
                slot=False,
                next_poll_at=after(now, self.retry_in),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Succeed(AttemptMove):
    """The output is ours: the hold is confirmed in the same transaction. `charge` is in micro-credits."""

    output: dict[str, Any]
    usage: dict[str, Any]
    charge: int
    vendor_cost: int | None = None

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, IN_FLIGHT):
            return None
        charged = min(self.charge, task.quoted)
        answered = clock_stopped(task, now)
        new = ended(
            answered,
            Status.SUCCEEDED,
            now,
            charged=charged,
            vendor_cost=added(task.vendor_cost, self.vendor_cost),
        )
        return Step(
            task=new,
            attempt=closed(task, now, "succeeded", vendor_cost=self.vendor_cost),
            output=self.output,
            usage=self.usage,
            events=[
                (
                    "task.succeeded",
                    {
                        "output": self.output,
                        "usage": self.usage,
                        "charged": to_credits(charged),
                        "duration_seconds": duration(new),
                    },
                )
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlyOutput(AttemptMove):
    """An output that arrived before the end."""

    asset: dict[str, Any]

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if not self.holds(task, IN_FLIGHT):
            return None
        return Step(task=task, events=[("task.output", {"asset": self.asset})])


def added(total: int | None, more: int | None) -> int | None:
    return total if more is None else (total or 0) + more


def duration(task: TaskState) -> float | None:
    """Seconds of the last attempt, without queueing."""
    if task.started_at is None or task.finished_at is None:
        return None
    return round((task.finished_at - task.started_at).total_seconds(), 3)


# --- The ways back to the queue


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
        data["retry_at"] = task.due_at.isoformat()
    return ("task.queued", data)


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
                "retry_at": retry_at.isoformat() if retry_at else None,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Block(Move):
    """queued -> blocked: nobody can serve its route now."""

    reason: str
    detail: str

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if task.status != Status.QUEUED or not task.ready:
            return None
        return Step(
            task=task.evolve(status=Status.BLOCKED, blocked_at=now, phase=self.detail[:100]),
            events=[("task.blocked", {"reason": self.reason, "detail": self.detail})],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Unblock(Move):
    """blocked -> queued: somebody can serve its route again."""

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if task.status != Status.BLOCKED:
            return None
        new = task.evolve(status=Status.QUEUED, blocked_at=None, phase="")
        return Step(task=new, events=[queued_event(new, "unblocked")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reroute(Move):
    """To the next model of its fall-back list, before it was ever admitted there."""

    route_id: int
    model: str

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if task.status not in WAITING:
            return None
        new = task.evolve(
            status=Status.QUEUED,
            blocked_at=None,
            phase="",
            route_id=self.route_id,
            model=self.model,
        )
        return Step(task=new, events=[queued_event(new, "failover")])


@dataclass(frozen=True, slots=True, kw_only=True)
class Promote(Move):
    """To the head of its own user's line; the latest promotion goes first."""

    by: str
    rank: int

    def step(self, task: TaskState, now: datetime) -> Step | None:
        if task.status != Status.QUEUED:
            return None
        return Step(task=task.evolve(rank=self.rank), events=[("task.promoted", {"by": self.by})])


# --- The unknown


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


# --- The ends


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
