"""`app.log`, written by many processes: rotated at a size and every day, kept for some days."""

import fcntl
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

MAX_BYTES = 100 << 20


class SharedLogFile(logging.Handler):
    """Appends lines to `path`. Whoever finds the file too big or of another day renames it.

    Lines are written in one call to a file opened for appending, so processes do not mix theirs.
    """

    def __init__(self, path: Path, *, keep_days: int, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.keep_days = keep_days
        self.max_bytes = max_bytes
        self.file = self._open()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record) + "\n"
            self._follow()
            self.file.write(line)
            self.file.flush()
        except Exception:  # logging must never break the work it reports
            self.handleError(record)

    def close(self) -> None:
        self.file.close()
        super().close()

    def _open(self) -> TextIO:
        return self.path.open("a", encoding="utf-8")

    def _follow(self) -> None:
        """Rotate when it is time; go to the new file when another process did."""
        status = self._status()
        if status and self._is_over(status):
            self._rotate()
            status = None
        if status is None or status.st_ino != os.fstat(self.file.fileno()).st_ino:
            self.file.close()
            self.file = self._open()

    def _status(self) -> os.stat_result | None:
        try:
            return self.path.stat()
        except FileNotFoundError:
            return None

    def _is_over(self, status: os.stat_result) -> bool:
        too_big = status.st_size >= self.max_bytes
        return too_big or (status.st_size > 0 and day(status.st_mtime) != day(time.time()))

    def _rotate(self) -> None:
        with self.path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            status = self._status()
            if status and self._is_over(status):  # another process may have been first
                self.path.rename(self._archive())
                self._forget_old()

    def _archive(self) -> Path:
        stem = f"{self.path.stem}-{day(self.path.stat().st_mtime)}"
        number = len(list(self.path.parent.glob(f"{stem}*{self.path.suffix}"))) + 1
        return self.path.with_name(f"{stem}.{number}{self.path.suffix}")

    def _forget_old(self) -> None:
        oldest = time.time() - self.keep_days * 86400
        for old in self.path.parent.glob(f"{self.path.stem}-*{self.path.suffix}"):
            if old.stat().st_mtime < oldest:
                old.unlink(missing_ok=True)


def day(seconds: float) -> str:
    """`2026-11-21`, UTC."""
    return datetime.fromtimestamp(seconds, UTC).date().isoformat()
