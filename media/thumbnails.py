"""Thumbnails of stored images and films, for the media worker only: of films with the result, others by a chore."""

from io import BytesIO
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import BinaryIO, cast

import structlog

from media.images import thumbnail
from media.keys import thumbnail_key
from media.models import Asset, Kind
from media.sniff import IMAGES
from media.storages import read, write

log = structlog.get_logger(__name__)
FILMS = frozenset({"video/mp4", "video/quicktime", "video/webm", "video/x-matroska"})
MISSING = Asset.objects.filter(
    kind__in=[Kind.IMAGE, Kind.VIDEO], thumbnail_key__isnull=True, deleted_at__isnull=True
).order_by("id")


def make_missing_thumbnails(limit: int = 100) -> int:
    """Thumbnails for the oldest images and films that have none; the number made."""
    return sum(_make(asset) for asset in MISSING[:limit])


def _make(asset: Asset) -> bool:
    """What cannot be decoded is marked with an empty key and never tried again."""
    try:
        with read(asset.key) as stored:
            add_thumbnail(asset, stored)
    except FileNotFoundError:
        log.warning("media.bytes_missing", asset=str(asset.id))
        asset.thumbnail_key = ""
    Asset.objects.filter(id=asset.id).update(thumbnail_key=asset.thumbnail_key)
    return bool(asset.thumbnail_key)


def add_thumbnail(asset: Asset, file: BinaryIO) -> None:
    """Write the thumbnail of what `file` holds and name it in `asset`, whose row is the caller's business."""
    small = _small(file, asset.content_type)
    asset.thumbnail_key = thumbnail_key(asset.key) if small else ""
    if small:
        write(thumbnail_key(asset.key), BytesIO(small), "image/webp")


def _small(file: BinaryIO, content_type: str) -> bytes | None:
    if content_type not in IMAGES | FILMS:
        return None
    # A child process needs a real file at its beginning, which a storage has not.
    with TemporaryFile() as local:
        file.seek(0)
        copyfileobj(file, local)
        local.seek(0)
        return thumbnail(cast("BinaryIO", local), content_type)
