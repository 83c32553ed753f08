"""What may happen to a task that waits."""

from dataclasses import dataclass
from datetime import datetime

from tasks.models import WAITING, Status
from tasks.moves.base import Move, queued_event
from tasks.state import Step, TaskState


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
