"""Ring workers: Celery jobs carry ids and nothing else. One pipelined round trip for many messages.

A message that gets lost is sent again by the orchestrator's sweeps, so a broker that is away delays work only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from kombu.exceptions import OperationalError

from genpulse.celery import PRIORITY_STEPS, app
from tasks.models import Priority

log = structlog.get_logger(__name__)

MEDIA, WEBHOOKS, QUARANTINE, CONTROL = "media", "webhooks", "quarantine", "control"


@dataclass(frozen=True, slots=True)
class Message:
    """A job for a queue; `args` are ids in JSON types."""

    job: str
    queue: str
    args: tuple[Any, ...]
    priority: int = Priority.DEFAULT


def submit(task_id: Any, attempt: int, queue: str, priority: int) -> Message:
    return Message("gp.submit", queue, (str(task_id), attempt), priority)


def find(task_id: Any, attempt: int, queue: str) -> Message:
    return Message("gp.find", queue, (str(task_id), attempt), Priority.CRITICAL)


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
