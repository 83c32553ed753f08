"""Errors as rows of `sys_logs`. Whoever logs never waits: a thread writes, and what it cannot write gets lost."""

import json
import logging
import os
import threading
from collections import deque
from typing import Any

import psycopg

MOST_WAITING = 1000  # of a storm of errors the newest are kept
PORTION = 200
PAUSE = 5.0  # after the database was not to be reached
LAST_WORDS = 2.0  # what the end of a process waits
INSERT = "INSERT INTO sys_logs (level, source, task_id, message, stack_trace) VALUES (%s, %s, %s, %s, %s)"
Row = tuple[Any, ...]


class ErrorRows(logging.Handler):
    """Takes the formatted lines of `genpulse.logging`, so that nothing is stored that app.log would not show."""

    def __init__(self, url: str, pause: float = PAUSE) -> None:
        super().__init__(logging.ERROR)
        self.url, self.pause = url, pause
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._waiting: deque[Row] = deque(maxlen=MOST_WAITING)
        self._filled, self._stopping = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            row = row_of(json.loads(self.format(record)))
            if self._pid != os.getpid():  # forked: threads do not come along
                self._begin()
            self._waiting.append(row)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="sys-logs", daemon=True)
                self._thread.start()
            self._filled.set()
        except Exception:  # logging must never break the work it reports
            self.handleError(record)

    def close(self) -> None:
        self._stopping.set()
        self._filled.set()
        if self._thread is not None and self._pid == os.getpid():
            self._thread.join(LAST_WORDS)
        super().close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._filled.wait()
            self._filled.clear()
            try:
                self._write()
            except psycopg.OperationalError:  # not logged: it would come back here
                self._filled.set()
                self._stopping.wait(self.pause)
            except Exception:  # noqa: S112 - rows nobody can store; the thread goes on
                continue

    def _write(self) -> None:
        """Everything that waits, in a connection of its own."""
        with psycopg.connect(self.url, connect_timeout=3, autocommit=True) as connection:
            while portion := self._taken():
                try:
                    with connection.cursor() as cursor:
                        cursor.executemany(INSERT, portion)
                except psycopg.OperationalError:
                    self._waiting.extendleft(reversed(portion))
                    raise

    def _taken(self) -> list[Row]:
        return [self._waiting.popleft() for _ in range(min(PORTION, len(self._waiting)))]


def row_of(line: dict[str, Any]) -> Row:
    """(level, source, task_id, message, stack_trace) of a log line."""
    source = "/".join(str(line[name]) for name in ("process", "logger") if line.get(name))
    message = ": ".join(str(line[name]) for name in ("event", "error") if line.get(name))
    places = line.get("exception")
    trace = "\n".join(map(str, places)) if isinstance(places, list) else None
    texts = (str(line["level"])[:10], source[:200], line.get("task_id"), message, trace)
    return tuple(None if text is None else storable(str(text)) for text in texts)


def storable(text: str) -> str:
    """Without what PostgreSQL refuses in a text."""
    return text.replace("\0", "").encode(errors="replace").decode()
