"""Inline bytes of a vendor's answer, kept outside the database until the results are stored."""

from typing import BinaryIO
from uuid import UUID

from media.assets import Data, opened
from media.keys import raw_key
from media.storages import read, remove, write


def write_raw(task_id: UUID, attempt: int, index: int, data: Data, content_type: str) -> str:
    """Keep `data` under a key made of task, attempt and index; writing again replaces. The key."""
    key = raw_key(task_id, attempt, index)
    with opened(data) as file:
        write(key, file, content_type)
    return key


def open_raw(key: str) -> BinaryIO:
    """The bytes as a file. Raises FileNotFoundError."""
    return read(key)


def delete_raw(key: str) -> None:
    """Idempotent."""
    remove(key)
