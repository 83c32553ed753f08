"""The recorder of a worker process: one thread and one connection that write what all job threads learned.

Moves that arrive within a few milliseconds are applied together (group commit). A claim is a move like any other;
its answer comes with everything the runner needs. A group that fails is tried move by move, so a poisoned one never
takes its neighbours with it; a database that is away is waited for.
"""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import structlog
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection, transaction
from psycopg import errors as pg

from genpulse import meters, sql
from genpulse.config import config
from genpulse.ids import new_id
from tasks import work
from tasks.lifecycle import Applied, apply
from tasks.moves import Move, Start
from tasks.work import Key, Work

log = structlog.get_logger(__name__)
MOST = 64
T = TypeVar("T")
PATIENCE = 30.0  # seconds a database that is away is waited for


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of a move, and for a claim that won: the work."""

    applied: Applied
    work: Work | None = None

    @property
    def ok(self) -> bool:
        return self.applied.ok


@dataclass(slots=True)
class Entry:
    move: "Move | Callable[[], Move]"  # a callable is called here, where the database may be asked
    future: "Future[Recorded]" = field(default_factory=Future)


@dataclass(slots=True)
class Question:
    """Something to ask the database on behalf of a job thread."""

    ask: Callable[[], Any]
    future: "Future[Any]" = field(default_factory=Future)


class Recorder:
    """Start it once per process; `record` from any thread; `close` flushes."""

    def __init__(self) -> None:
        self._entries: queue.SimpleQueue[Entry | Question | None] = queue.SimpleQueue()
        self._window = 0.0
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()

    def record(self, move: Move | Callable[[], Move]) -> "Future[Recorded]":
        entry = Entry(move)
        self._entries.put(entry)
        return entry.future

    def ask(self, question: Callable[[], T]) -> "Future[T]":
        """Run `question` in the recorder's thread, whose connection it may use."""
        entry = Question(question)
        self._entries.put(entry)
        return entry.future

    def close(self) -> None:
        """Write what is left, then stop."""
        self._entries.put(None)
        self._thread.join(timeout=PATIENCE)

    def _run(self) -> None:
        while True:
            group, last = self._gather()
            if group:
                self._write(group)
            if last:
                connection.close()
                return

    def _gather(self) -> tuple[list[Entry], bool]:
        """The next group: what is there, and what comes within the window; True = no more will come.

        Questions are answered on the way. A move that came alone waits for no other the next time.
        """
        group: list[Entry] = []
        until = float("inf")
        while len(group) < MOST:
            try:
                patience = None if until == float("inf") else max(until - time.monotonic(), 0)
                entry = self._entries.get(timeout=patience)
            except queue.Empty:
                break
            if entry is None:
                return group, True
            if isinstance(entry, Question):
                answer(entry)
                continue
            until = min(until, time.monotonic() + self._window)
            group.append(entry)
        self._window = config.recorder_window if len(group) > 1 else 0.0
        return group, False

    def _write(self, group: Sequence[Entry]) -> None:
        try:
            self._apply(group)
        except Exception as error:
            if is_away(error):
                self._write_later(group)
            elif len(group) == 1:
                bury(group[0], error)
            else:
                for entry in group:
                    self._write([entry])

    def _write_later(self, group: Sequence[Entry]) -> None:
        """The database is away or refuses: again until it is back. A repeated move is fenced like any other."""
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            connection.close()
            time.sleep(0.2)
            try:
                return self._apply(group)
            except Exception as error:
                log.warning("recorder.group", error=type(error).__name__, moves=len(group))
                if not is_away(error):
                    break
        for entry in group:
            try:
                self._apply([entry])
            except Exception as error:
                bury(entry, error)
        return None

    @staticmethod
    def _apply(group: Sequence[Entry]) -> None:
        moves = [entry.move() if callable(entry.move) else entry.move for entry in group]
        meters.group_size.observe(len(moves))

        def along(done: Sequence[Applied]) -> None:
            claimed = [claim for result in done if (claim := claim_of(result))]
            # The first thing after the commit: whoever has claimed goes on before anybody is rung.
            transaction.on_commit(partial(give_out, group, done, work.ask(claimed)), robust=True)

        for entry, result in zip(group, apply(moves, along), strict=True):
            if not entry.future.done():
                entry.future.set_result(Recorded(result))


def claim_of(result: Applied) -> Key | None:
    move = result.move
    return (move.task_id, move.attempt) if result.ok and isinstance(move, Start) else None


def give_out(
    group: Sequence[Entry], done: Sequence[Applied], asked: Callable[[], dict[Key, dict[str, Any]]]
) -> None:
    """Answer those who wait for a group that is written."""
    rows = asked()
    for entry, result in zip(group, done, strict=True):
        row = rows.get(claim) if (claim := claim_of(result)) else None
        try:
            entry.future.set_result(Recorded(result, work.complete(row) if row else None))
        except Exception as error:
            bury(entry, error)


def is_away(error: Exception) -> bool:
    """The database is, not the move, at fault. It ends the session of whom it took for stuck with an internal error."""
    return isinstance(error, (OperationalError, InterfaceError)) or isinstance(
        error.__cause__, (pg.IdleInTransactionSessionTimeout, pg.TransactionTimeout)
    )


def answer(question: Question) -> None:
    for last in (False, True):
        try:
            question.future.set_result(question.ask())
        except Exception as error:
            if is_away(error):
                connection.close()
            if last or not is_away(error):
                question.future.set_exception(error)
        if question.future.done():
            return


def bury(entry: Entry, error: Exception) -> None:
    """A move that fails alone is kept for operators; its attempt's lease runs out and recovery goes by stage."""
    log.error("recorder.dead_letter", error=type(error).__name__)
    try:
        dead_letter("recorder", "", f"{type(error).__name__}: {error}", entry.move)
    except DatabaseError:
        connection.close()
    entry.future.set_exception(error)


def dead_letter(source: str, original_id: str, error: str, payload: Any = "") -> None:
    """Keep what could not be read or recorded, at most 4 KiB of it."""
    sql.execute(
        "INSERT INTO tasks_deadletter (id, source, original_id, error, raw_payload) VALUES (%s, %s, %s, %s, %s)",
        [new_id(), source, original_id[:200], error[:500], str(payload)[:4096]],
    )
