"""Watching executors that tell how they get on: one thread for each pair of this worker and such an executor.

It follows every job this worker has submitted there, holds no lease and is never the truth: it emits progress, and
makes the poll of a job due that has ended. It ends when there is nothing left to follow.
"""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import structlog

from genpulse import sql
from genpulse.config import config
from providers import registry
from providers.base import Emit, ExecutorInfo, Provider, ProviderError
from providers.http import Session
from tasks import live
from tasks.desk import Desk, Holding
from tasks.work import Key, Work

log = structlog.get_logger(__name__)
OPEN_PATIENCE = 2.0  # seconds a submit waits for the channel it would be reported on
IDLE = 60.0
LONGEST_PAUSE = 30.0
WRITE_EVERY = 0.5
MOST_UNKNOWN = 1000

NOTE = (
    "UPDATE tasks_attempt AS a SET progress = greatest(a.progress, new.progress), phase = new.phase FROM "  # noqa: S608
    + sql.unnest({"task_id": "uuid", "number": "int", "progress": "int", "phase": "text"})
    + " WHERE a.task_id = new.task_id AND a.number = new.number AND a.stage = 'accepted'"
)
POLL_NOW = """
UPDATE tasks_attempt SET next_poll_at = now() WHERE task_id = %s AND number = %s AND stage = 'accepted'
"""


def client_id(worker: str, executor: UUID) -> str:
    """Names this worker process at this executor; two workers never share a channel."""
    return f"{worker}.{executor.hex[:8]}"


@dataclass(slots=True)
class Followed:
    """A job of ours at the executor."""

    key: Key
    emit: Emit
    close: Callable[[], None]
    until: float  # monotonic: nobody looks at it any more
    accepted: "Future[Any]"
    note: tuple[int, str] | None = None  # progress that is not written yet


class Watch:
    """The channel to one executor. Implements `Watcher`; every method may be called from any thread."""

    def __init__(self, at: Desk, provider: Provider, work: Work, info: ExecutorInfo) -> None:
        self.at, self.provider, self.info = at, provider, info
        self.client_id = client_id(at.name, work.executor_id)
        self.tried = threading.Event()  # the first channel is open, or could not be opened
        self.ended = False
        self._open = False
        self._jobs: dict[str, Followed] = {}
        self._early: dict[str, None] = {}  # ended before we knew their ids
        self._lock = threading.Lock()
        self._used, self._written = time.monotonic(), 0.0
        threading.Thread(target=self._run, name=f"watch-{work.executor}", daemon=True).start()

    def touch(self) -> bool:
        """Somebody is about to submit; False when this watch has ended."""
        with self._lock:
            self._used = time.monotonic()
            return not self.ended

    def follow(self, work: Work, external_id: str, accepted: "Future[Any]") -> None:
        """A job the executor has taken; `accepted` is done when that is recorded."""
        emit = live.emitter(work, Holding(work, sent=True))
        until = time.monotonic() + (work.seconds_left or work.timeout)
        with self._lock:
            self._jobs[external_id] = Followed(work.key, emit, emit.close, until, accepted)
            early = external_id in self._early
        if early:
            self.finished(external_id)

    def stopped(self) -> bool:
        """Asked as soon as the channel is open, and once a second."""
        self._open = True
        self.tried.set()
        return self._is_over()

    def _is_over(self) -> bool:
        now = time.monotonic()
        with self._lock:
            gone = [name for name, job in self._jobs.items() if job.until < now]
            dropped = [self._jobs.pop(name) for name in gone]
            if self._jobs:
                self._used = now
            self.ended = self.at.draining or now - self._used > IDLE
        for job in dropped:
            job.close()
        return self.ended

    def progress(self, external_id: str, fraction: float, **more: Any) -> None:
        job = self._jobs.get(external_id)
        if job is None:
            return
        job.emit.progress(fraction, **more)
        job.note = (min(int(fraction * 100), 99), (more.get("phase") or "")[:200])
        if time.monotonic() - self._written > WRITE_EVERY:
            self._write()

    def preview(self, external_id: str, data: bytes, content_type: str) -> None:
        if job := self._jobs.get(external_id):
            job.emit.preview(data, content_type)

    def finished(self, external_id: str) -> None:
        self._write()  # what is noted must stand before the poll ends the attempt
        with self._lock:
            job = self._jobs.pop(external_id, None)
            if job is None:
                self._early[external_id] = None
                while len(self._early) > MOST_UNKNOWN:
                    self._early.pop(next(iter(self._early)))
                return
        job.close()
        # Only once it is recorded as accepted there is a poll to hasten.
        job.accepted.add_done_callback(lambda _: self.at.recorder.ask(partial(poll_now, job.key)))

    def _write(self) -> None:
        self._written = time.monotonic()
        with self._lock:
            noted = [(job, job.note) for job in self._jobs.values() if job.note]
            for job, _ in noted:
                job.note = None
        rows = sorted((*job.key, *note) for job, note in noted)
        if rows:
            self.at.recorder.ask(partial(sql.execute, NOTE, sql.columns(rows)))

    def _run(self) -> None:
        """Listen, and when the channel breaks, again after a pause that doubles."""
        pause = 0.5
        while not self._is_over():
            self._open = False
            try:
                self.provider.watch(self.info, self)
            except ProviderError as problem:
                log.info("watch.refused", executor=self.info.name, kind=problem.kind)
            except Exception:
                log.exception("watch.failed", executor=self.info.name)
            self.tried.set()
            pause = 1.0 if self._open else min(pause * 2, LONGEST_PAUSE)
            time.sleep(pause * config.backoff_scale)


_watches: dict[tuple[str, UUID, str, str | None], Watch] = {}
_lock = threading.Lock()


def open_watch(at: Desk, work: Work, info: Callable[[Session], ExecutorInfo]) -> Watch | None:
    """The watch of the executor of `work`, open (or given up on for now) before anything is submitted there.

    None where the provider tells nothing. `info` makes what the provider needs, around a session without deadline.
    """
    provider = registry.get(work.provider)
    if "watch" not in provider.capabilities:
        return None
    # With another address or key it is another channel.
    key = (at.name, work.executor_id, work.base_url, work.ciphertext)
    with _lock:
        watch = _watches.get(key)
        if watch is None or not watch.touch():
            session = Session(work.base_url)
            watch = Watch(at, provider, work, session.bind(provider, info(session)))
            _watches[key] = watch
    watch.tried.wait(OPEN_PATIENCE)
    return watch


def poll_now(key: Key) -> int:
    return sql.execute(POLL_NOW, list(key))
