"""Where bytes live: one of `local`, `s3`, `oss`, chosen by STORAGE_TYPE and imported on first use.

Each module of this package has one class `Storage`: Django's storage interface plus the few verbs of
`AssetStorage`. Everything else goes through the functions here, which raise `StorageUnavailable` for
whatever a disk or a vendor may fail with.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Protocol, cast

import structlog
from django.core.files.base import File
from django.core.files.storage import default_storage

from genpulse.errors import Unavailable
from media.keys import checked

log = structlog.get_logger(__name__)


class StorageUnavailable(Unavailable, OSError):
    """The storage of files does not answer, or is full.

    An OSError whatever the vendor, so that workers wait for a bucket as they do for a disk.
    """

    def __init__(self) -> None:
        super().__init__(retry_after=5)


@dataclass(frozen=True, kw_only=True, slots=True)
class UploadForm:
    """How a client sends bytes straight to the storage: a POST form with `fields`."""

    url: str
    fields: dict[str, str] = field(default_factory=dict)


class AssetStorage(Protocol):
    """Writing replaces; a reader sees all of a file or nothing of it."""

    failures: tuple[type[Exception], ...]  # beside OSError, what being out of reach looks like

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


@contextmanager
def _reaching() -> Iterator[AssetStorage]:
    backend = storage()
    try:
        yield backend
    except (FileNotFoundError, FileExistsError):
        raise
    except Exception as error:
        if not isinstance(error, (OSError, *backend.failures)):
            raise
        log.warning("storage.unavailable", error=type(error).__name__)
        raise StorageUnavailable from error


def write(key: str, source: BinaryIO, content_type: str) -> None:
    """Store all of `source` under `key`, replacing what is there."""
    content: File[bytes] = File(source, name=key)
    content.content_type = content_type  # type: ignore[attr-defined]  # django-storages sends it
    with _reaching() as backend:
        backend.save(checked(key), content)


def read(key: str) -> BinaryIO:
    """The stored bytes as an open, seekable file. Raises FileNotFoundError."""
    with _reaching() as backend:
        file = backend.open(checked(key))
        try:
            file.seek(0)  # a remote file is fetched by its first use, which belongs here
        except BaseException:
            file.close()
            raise
        return cast("BinaryIO", file)


def move(source: str, target: str) -> None:
    """Rename. Raises FileNotFoundError without a source, FileExistsError with a target."""
    with _reaching() as backend:
        backend.move(checked(source), checked(target))


def remove(key: str) -> None:
    """Idempotent."""
    with _reaching() as backend:
        backend.delete(checked(key))
