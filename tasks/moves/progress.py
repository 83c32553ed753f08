"""The road to success: admitted, claimed, sent, accepted, answered, stored."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid5

from genpulse.config import config
from genpulse.money import to_credits
from tasks.models import Stage, Status
from tasks.moves.base import (
    IN_FLIGHT,
    AttemptMove,
    Move,
    added,
    after,
    clock_stopped,
    closed,
    duration,
    ended,
)
from tasks.state import AttemptChange, NewAttempt, Step, TaskState


@dataclass(frozen=True, slots=True, kw_only=True)
class Admit(Move):
    """queued -> admitted: it gets a slot and an attempt of its own.

    `family` and `provider` are those of its route, which may lead to another model than the first of its list.
    """

    executor_id: UUID
    executor: str
    family: str | None = None
    provider: str | None = None
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
            family=self.family or task.family,
            provider=self.provider or task.provider,
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
