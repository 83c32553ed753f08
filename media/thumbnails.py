"""Thumbnails of stored images, for the media worker only: results at once, uploads by a chore."""

from collections.abc import Iterable
from io import BytesIO
from shutil import copyfileobj
from tempfile import TemporaryFile
from typing import BinaryIO, cast
from uuid import UUID

import structlog

from media.images import thumbnail
from media.keys import thumbnail_key
from media.models import Asset
from media.sniff import IMAGES
from media.storages import read, write

log = structlog.get_logger(__name__)
MISSING = Asset.objects.filter(
    kind="image", thumbnail_key__isnull=True, deleted_at__isnull=True
).order_by("id")


def make_thumbnails(asset_ids: Iterable[UUID]) -> int:
    """Thumbnails for those of `asset_ids` that are images without one; the number made."""
    return sum(_make(asset) for asset in MISSING.filter(id__in=list(asset_ids)))


def make_missing_thumbnails(limit: int = 100) -> int:
    """Thumbnails for the oldest images that have none; the number made."""
    return sum(_make(asset) for asset in MISSING[:limit])


def _make(asset: Asset) -> bool:
    """What cannot be decoded is marked with an empty key and never tried again."""
    picture = _decoded(asset) if asset.content_type in IMAGES else None
    key = thumbnail_key(asset.key) if picture else ""
    if picture:
        write(key, BytesIO(picture), "image/webp")
    Asset.objects.filter(id=asset.id).update(thumbnail_key=key)
    return bool(picture)


def _decoded(asset: Asset) -> bytes | None:
    # A child process needs a real file at its beginning; a storage promises neither.
    with TemporaryFile() as local:
        try:
            with read(asset.key) as stored:
                copyfileobj(stored, local)
        except FileNotFoundError:
            log.warning("media.bytes_missing", asset=str(asset.id))
            return None
        local.seek(0)
        return thumbnail(cast("BinaryIO", local), asset.content_type)
