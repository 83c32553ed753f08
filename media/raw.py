"""Inline bytes of a vendor's answer, kept outside the database until the results are stored."""

from contextlib import AbstractContextManager
from typing import BinaryIO, cast
from uuid import UUID

from media.assets import Data, opened
from media.storages import checked, raw_key, storage, write


def write_raw(task_id: UUID, attempt: int, index: int, data: Data, content_type: str) -> str:
    """Keep `data` under a key made of task, attempt and index; writing again replaces. The key."""
    key = raw_key(task_id, attempt, index)
    with opened(data) as file:
        write(key, file, content_type)
    return key


def open_raw(key: str) -> AbstractContextManager[BinaryIO]:
    """The bytes as a file. Raises FileNotFoundError."""
    return cast("AbstractContextManager[BinaryIO]", storage().open(checked(key)))


def delete_raw(key: str) -> None:
    """Idempotent."""
    storage().delete(checked(key))
