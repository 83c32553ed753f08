"""Files below STORAGE_LOCAL_PATH."""

import os
from pathlib import Path
from uuid import uuid4

from django.core.files.base import File
from django.core.files.storage import FileSystemStorage

from genpulse.config import config
from media.storages import UploadForm


class Storage(FileSystemStorage):
    """A file appears under its key when it is complete and on disk, never before."""

    failures: tuple[type[Exception], ...] = ()

    def __init__(self) -> None:
        super().__init__(allow_overwrite=True)

    @property
    def location(self) -> str:  # read each time: tests and `restore` move the folder
        return str(Path(str(config.storage_local_path)).absolute())

    def _save(self, name: str, content: "File[bytes]") -> str:
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{uuid4().hex}.part")
        try:
            with part.open("wb") as file:
                for chunk in content.chunks(1 << 20):
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _sync(path.parent)
        return name

    def move(self, source: str, target: str) -> None:
        """A hard link and an unlink: unlike a rename it cannot replace a verified file."""
        old, new = Path(self.path(source)), Path(self.path(target))
        new.parent.mkdir(parents=True, exist_ok=True)
        os.link(old, new)
        old.unlink(missing_ok=True)
        _sync(new.parent)

    def public_url(self, key: str, ttl: int, content_type: str, disposition: str) -> str | None:
        """None: GenPulse serves local files itself."""
        return None

    def upload_form(self, key: str, size: int, content_type: str, ttl: int) -> UploadForm | None:
        """None: GenPulse takes local files itself."""
        return None


def _sync(folder: Path) -> None:
    """Make the new name survive a power cut too: the row that points at it will."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
