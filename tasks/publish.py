"""Ring workers: Celery jobs carry ids and nothing else. One pipelined round trip for many messages.

A message that gets lost is sent again by the orchestrator's sweeps, so a broker that is away delays work only.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog
from kombu.exceptions import OperationalError

from genpulse.celery import PRIORITY_STEPS, app
from tasks.models import Priority

log = structlog.get_logger(__name__)
T = TypeVar("T")

CLAIMS = 8  # in one message: taking it from the broker costs a worker more than any of them
MEDIA, WEBHOOKS, QUARANTINE, CONTROL = "media", "webhooks", "quarantine", "control"


@dataclass(frozen=True, slots=True)
class Message:
    """A job for a queue; `args` are ids in JSON types."""

    job: str
    queue: str
    args: tuple[Any, ...]
    priority: int = Priority.DEFAULT


def submits(claims: Iterable[tuple[Any, int, str, int]]) -> list[Message]:
    """Jobs for claims of (task, attempt, queue, level); those of one queue and level share messages."""
    lines: dict[tuple[str, int], list[tuple[str, int]]] = defaultdict(list)
    for task, attempt, queue, priority in claims:
        lines[(queue, priority)].append((str(task), attempt))
    return [
        Message("gp.submit", queue, (queue, priority, claimed), priority)
        for (queue, priority), line in lines.items()
        for claimed in batched(line, 1 if queue == QUARANTINE else CLAIMS)
    ]


def batched(line: Sequence[T], size: int) -> list[Sequence[T]]:
    return [line[start : start + size] for start in range(0, len(line), size)]


def find(task_id: Any, attempt: int, queue: str) -> Message:
    return Message("gp.find", queue, (str(task_id), attempt))


def fetch(task_id: Any, attempt: int) -> Message:
    return Message("gp.fetch", MEDIA, (str(task_id), attempt))


def chore(name: str) -> Message:
    """Before the results that wait: probes of executors must not stand behind a jam."""
    return Message("gp.chore", MEDIA, (name,), Priority.CRITICAL)


def publish(messages: Sequence[Message]) -> bool:
    """Send all; False when the broker cannot be reached (the sweeps will send them again)."""
    if not messages:
        return True
    try:
        with app.producer_pool.acquire(block=True) as producer, producer.batch():
            for message in messages:
                app.send_task(
                    message.job,
                    args=message.args,
                    queue=message.queue,
                    priority=PRIORITY_STEPS[message.priority],
                    producer=producer,
                    retry=False,
                )
    except (OperationalError, OSError) as error:
        log.warning("broker.unreachable", count=len(messages), error=type(error).__name__)
        return False
    return True
