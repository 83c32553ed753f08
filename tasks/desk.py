"""The desk of a worker process: what it holds right now, its recorder and its heartbeat.

The heartbeat is one UPDATE of all attempts this process holds: it renews their leases, keeps their progress, and
learns which were canceled, replaced or have run out of time. It also renews the Worker row. Only recorder and
heartbeat touch PostgreSQL in an I/O worker.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog
from django.db import Error as DatabaseError
from django.db import connection

from genpulse import sql
from genpulse.config import config
from providers.base import AbortReason
from providers.http import Session
from tasks.recorder import Recorder
from tasks.work import Key, Work

log = structlog.get_logger(__name__)

BEAT = (
    "UPDATE tasks_attempt AS a SET lease_until = now() + make_interval(secs => %s),"  # noqa: S608
    " progress = greatest(a.progress, new.progress), phase = new.phase FROM "
    + sql.unnest({"task_id": "uuid", "number": "int", "progress": "int", "phase": "text"})
    + ", tasks_task t WHERE a.task_id = new.task_id AND a.number = new.number AND t.id = a.task_id"
    " AND a.stage IN ('claimed', 'sending') AND a.lease_until IS NOT NULL RETURNING a.task_id, a.number, t.cancel_requested,"
    " t.attempt <> a.number OR t.finished_at IS NOT NULL"
)
SIGN_ON = """
INSERT INTO tasks_worker (name, queues, threads, free, draining, quarantine, last_seen)
VALUES (%s, %s, %s, %s, %s, %s, now())
ON CONFLICT (name) DO UPDATE SET queues = excluded.queues, threads = excluded.threads, free = excluded.free,
  draining = excluded.draining, quarantine = excluded.quarantine, last_seen = now()
"""
SIGN_OFF = "DELETE FROM tasks_worker WHERE name = %s"


@dataclass(eq=False, slots=True)
class Holding:
    """An attempt in the hands of a job thread. `cut` may be called from any thread."""

    work: Work
    session: Session | None = None
    reason: AbortReason | None = None
    sent: bool = False  # a paid request may have left
    delta_sent: bool = False
    progress: int = 0
    phase: str = ""

    def cut(self, reason: AbortReason) -> None:
        """Take the call back: canceled, fenced (somebody else has it) or shutdown."""
        self.reason = self.reason or reason
        if self.session is not None:
            self.session.abort(reason)


@dataclass(eq=False)
class Desk:
    """One for each worker process."""

    name: str
    queues: list[str]
    threads: int
    quarantine: bool = False
    recorder: Recorder = field(default_factory=Recorder)
    draining: bool = False

    def __post_init__(self) -> None:
        self._held: dict[Key, Holding] = {}
        self._claims = 0
        self._cut: AbortReason | None = None
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._beat_forever, name="heartbeat", daemon=True)
        self._thread.start()

    @contextmanager
    def claiming(self) -> Iterator[bool]:
        """Around a claim and what follows from it; False when this worker takes nothing more."""
        with self._lock:
            self._claims += 1
        try:
            yield not self.draining
        finally:
            with self._lock:
                self._claims -= 1

    @contextmanager
    def holding(self, work: Work) -> Iterator[Holding]:
        """Hold an attempt: its lease is renewed until the block ends."""
        held = Holding(work)
        with self._lock:
            self._held[work.key] = held
            held.reason = self._cut
        try:
            yield held
        finally:
            with self._lock:
                self._held.pop(work.key, None)

    @property
    def held(self) -> list[Holding]:
        with self._lock:
            return list(self._held.values())

    @property
    def idle(self) -> bool:
        """Nothing is claimed or held."""
        with self._lock:
            return not self._held and not self._claims

    def cut(self, reason: AbortReason) -> None:
        """Take back every call, also those that begin only now."""
        with self._lock:
            self._cut = reason
        for held in self.held:
            held.cut(reason)

    def drain(self) -> None:
        """Take no more work: the leader sees it with this beat."""
        self.draining = True
        self.beat()

    def close(self) -> None:
        """Flush the recorder, sign off, stop."""
        self.recorder.close()
        self._stopping.set()
        self._thread.join(timeout=config.heartbeat_seconds + 1)

    def _beat_forever(self) -> None:
        while True:
            started = time.monotonic()
            self.beat()
            if self._stopping.wait(
                max(config.heartbeat_seconds - (time.monotonic() - started), 0.01)
            ):
                break
        guarded(lambda: sql.execute(SIGN_OFF, [self.name]))
        connection.close()

    def beat(self) -> None:
        """Renew everything once; a database that is away is asked again with the next beat."""
        guarded(self._sign_on)
        guarded(self._renew)

    def _sign_on(self) -> None:
        free = max(self.threads - len(self.held), 0)
        sql.execute(
            SIGN_ON, [self.name, self.queues, self.threads, free, self.draining, self.quarantine]
        )

    def _renew(self) -> None:
        held = {one.work.key: one for one in self.held}
        if not held:
            return
        rows = [(*key, one.progress, one.phase[:200]) for key, one in sorted(held.items())]
        known: dict[Key, tuple[bool, bool]] = {
            (task, number): (canceled, fenced)
            for task, number, canceled, fenced in sql.fetch(
                BEAT, [config.lease_seconds, *sql.columns(rows)]
            )
        }
        for key, one in held.items():
            canceled, fenced = known.get(key, (False, False))
            if fenced:
                one.cut("fenced")
            elif canceled:
                one.cut("canceled")


def guarded(run: Any) -> None:
    try:
        run()
    except DatabaseError as error:
        log.warning("heartbeat.database", error=type(error).__name__)
        connection.close()


_desk: Desk | None = None


def open_desk(desk: Desk | None) -> None:
    """The worker's start (and, with None, its end) sets the desk of this process."""
    global _desk  # noqa: PLW0603 - one desk for a process, made when its worker is ready
    _desk = desk


def desk() -> Desk:
    """This process's desk. Raises RuntimeError outside a worker."""
    if _desk is None:
        raise RuntimeError("no worker runs in this process")
    return _desk
