"""What the engine counts for `/metrics`, after the commit that made it true."""

from collections.abc import Sequence
from datetime import datetime

from genpulse import meters
from tasks.models import Priority
from tasks.moves import AttemptMove, Move
from tasks.state import Step, TaskState

LEVELS = {Priority.CRITICAL: "critical", Priority.DEFAULT: "default", Priority.LOW: "low"}


def refused(move: Move) -> None:
    """A move of somebody who was replaced, or came too late."""
    if isinstance(move, AttemptMove):
        meters.fenced.labels(type(move).__name__).inc()


def written(steps: Sequence[Step], ended: Sequence[TaskState]) -> None:
    for step in steps:
        _attempt(step)
        _events(step)
    for task in ended:
        meters.ended.labels(task.family, task.provider, task.status.value, task.source).inc()
        meters.duration.labels(task.family, task.provider, task.task_type).observe(
            seconds(task.started_at, task.finished_at)
        )


def _attempt(step: Step) -> None:
    change = step.attempt
    if change is not None and change.outcome:
        meters.attempts.labels(step.task.provider, change.outcome).inc()


def _events(step: Step) -> None:
    for kind, data in step.events:
        if kind == "task.attempt_failed":
            meters.provider_errors.labels(step.task.provider, data["error"]["kind"]).inc()
            if data["next"] != "stop":
                meters.retries.labels(step.task.provider, data["error"]["kind"]).inc()
            if data["next"] == "failover":
                meters.failovers.labels(step.task.family).inc()
        elif kind == "task.running" and step.task.attempt == 1:
            level = LEVELS[Priority(step.task.priority)]
            waited = seconds(step.task.created_at, step.task.started_at)
            meters.queue_wait.labels(step.task.family, level).observe(waited)


def seconds(since: datetime | None, until: datetime | None) -> float:
    return (until - since).total_seconds() if since and until else 0.0
