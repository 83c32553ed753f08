"""How an I/O worker takes its jobs: without acknowledgement, and as soon as a thread is free.

The broker keeps no copy of a job for an acknowledgement: a lost one is rung again by the sweeps. The consumer asks for
no message while every thread is busy; the end of a job wakes it, which otherwise only its next tick would do.
"""

import os
from contextlib import suppress
from typing import Any

from celery import bootsteps
from celery.worker.request import Request


class Bell:
    """A pipe into the consumer's event loop; `ring` from any thread."""

    def __init__(self) -> None:
        self.mouth, self._hand = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def ring(self) -> None:
        with suppress(BlockingIOError):  # a full pipe has rung already
            os.write(self._hand, b".")

    def quiet(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.mouth, 4096)


bell = Bell()


class Doorbell(Request):  # type: ignore[misc]
    """A job of an I/O queue."""

    def acknowledge(self) -> None:
        """Called at the end of the job, when its thread is free."""
        self.acknowledged = True
        bell.ring()


class Listen(bootsteps.StartStopStep):  # type: ignore[misc]
    """Puts the bell into the event loop, anew after each loss of the broker."""

    requires = ("celery.worker.consumer:Tasks",)

    def start(self, consumer: Any) -> None:
        consumer.hub.add_reader(bell.mouth, bell.quiet)
