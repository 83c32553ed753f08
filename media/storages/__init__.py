"""Where bytes live: one of `local`, `s3`, `oss`, chosen by STORAGE_TYPE and imported on first use.

Each module of this package has one class `Storage`: Django's storage interface plus the few verbs of
`AssetStorage`. Keys are made here and nowhere else; a user's file name never becomes part of one.
"""

import re
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol, cast
from uuid import UUID

from django.core.files.base import File
from django.core.files.storage import default_storage

from genpulse.errors import NotFound

PART = r"[A-Za-z0-9_@:+][A-Za-z0-9_.@:+-]*"
KEY = re.compile(rf"{PART}(?:/{PART}){{1,7}}")


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadForm:
    """How a client sends bytes straight to the storage: a POST form with `fields`."""

    url: str
    fields: dict[str, str] = field(default_factory=dict)


class AssetStorage(Protocol):
    """Writing replaces; a reader sees all of a file or nothing of it."""

    def save(self, name: str, content: "File[bytes]") -> str: ...
    def open(self, name: str, mode: str = "rb") -> Any: ...
    def delete(self, name: str) -> None: ...
    def exists(self, name: str) -> bool: ...
    def move(self, source: str, target: str) -> None:
        """Rename; raises FileNotFoundError without a source, FileExistsError with a target."""

    def public_url(self, key: str, ttl: int, content_type: str, disposition: str) -> str | None:
        """A URL signed by the storage vendor, or None: GenPulse serves the bytes itself."""

    def upload_form(self, key: str, size: int, content_type: str, ttl: int) -> UploadForm | None:
        """A form for exactly that key and size, or None: GenPulse takes the bytes itself."""


def storage() -> AssetStorage:
    """The configured storage."""
    return cast("AssetStorage", default_storage)


def asset_key(account_id: UUID, asset_id: UUID, extension: str, now: datetime) -> str:
    return f"t/{account_id.hex}/{now:%Y%m}/{asset_id.hex}.{extension}"


def thumbnail_key(key: str) -> str:
    return f"{key.rpartition('.')[0]}.thumb.webp"


def raw_key(task_id: UUID, attempt: int, index: int) -> str:
    """Inline bytes of a vendor's answer, kept until the attempt's results are stored."""
    return f"r/{task_id.hex}/{attempt:d}/{index:d}"


def upload_key(upload_id: UUID) -> str:
    return f"u/{upload_id.hex}"


def checked(key: str) -> str:
    """`key` if it can be one of ours. Raises NotFound for everything else, without a look at the disk."""
    if len(key) > 512 or ".." in key or not KEY.fullmatch(key):
        raise NotFound
    return key


def write(key: str, source: BinaryIO, content_type: str) -> None:
    """Store all of `source` under `key`, replacing what is there."""
    content: File[bytes] = File(source, name=key)
    content.content_type = content_type  # type: ignore[attr-defined]  # django-storages sends it
    storage().save(checked(key), content)
