"""How workers take their jobs; those for I/O without acknowledgement, and as soon as a thread is free.

The broker keeps no copy of a job for an acknowledgement: a lost one is rung again by the sweeps. The consumer asks for
no message while every thread is busy; the end of a job wakes it, which otherwise only its next tick would do. A job
may bring more than one attempt: the first runs in the job's thread, the others beside it.
"""

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty
from types import MethodType
from typing import Any, TypeVar

import structlog
from celery import bootsteps
from celery.worker import state
from celery.worker.request import Request
from django.db import Error as DatabaseError
from django.db import connection
from kombu.transport import redis as transport
from redis import RedisError

log = structlog.get_logger(__name__)
T = TypeVar("T")


class Channel(transport.Channel):
    """The transport's own, but what is no message at all does not end the worker that meets it."""

    def _brpop_read(self, **options: Any) -> Any:
        before = set(self.qos._delivered)  # noqa: SLF001 - nothing public says what is not acknowledged
        try:
            return super()._brpop_read(**options)  # type: ignore[no-untyped-call]
        except (Empty, RedisError, OSError):
            raise
        except Exception as error:
            log.exception("broker.unreadable")
            keep(f"{type(error).__name__}: {error}")
            for tag in set(self.qos._delivered) - before:  # noqa: SLF001 - it would hold a place of the prefetch for ever
                self.basic_reject(tag, requeue=False)  # type: ignore[no-untyped-call]
            raise Empty from error  # as if there had been nothing


def keep(error: str) -> None:
    """For operators; the thing itself is gone."""
    from tasks.recorder import dead_letter

    try:
        dead_letter("broker", "", error)
    except DatabaseError as away:
        log.warning("broker.unreadable.not_kept", error=type(away).__name__)
    connection.close()


def install() -> None:
    transport.Transport.Channel = Channel


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


class Crew:
    """The threads of the pool, and what runs on them beside the jobs that Celery counts."""

    def __init__(self) -> None:
        self.pool: Any = None
        self._beside = 0
        self._lock = threading.Lock()

    @property
    def free(self) -> int:
        return int(self.pool.num_processes) - len(state.reserved_requests) - self._beside

    def share(self, work: Sequence[T], run: Callable[[T], object]) -> Sequence[T]:
        """Run as much of `work` as threads are free, each in its own; what is left over."""
        with self._lock:
            taken = work[: max(self.free, 0)]
            self._beside += len(taken)
        for item in taken:
            self.pool.executor.submit(self._run, run, item)
        return work[len(taken) :]

    def _run(self, run: Callable[[T], object], item: T) -> None:
        try:
            run(item)
        finally:
            with self._lock:
                self._beside -= 1
            bell.ring()


crew = Crew()


class Listen(bootsteps.StartStopStep):  # type: ignore[misc]
    """Puts bell and crew into the consumer, anew after each loss of the broker."""

    requires = ("celery.worker.consumer:Tasks",)

    def start(self, consumer: Any) -> None:
        consumer.hub.add_reader(bell.mouth, bell.quiet)
        crew.pool = consumer.pool
        limits = consumer.task_consumer.channel.qos
        may_consume = limits.can_consume

        def can_consume(_limits: Any) -> bool:
            return crew.free > 0 and bool(may_consume())

        limits.can_consume = MethodType(can_consume, limits)
