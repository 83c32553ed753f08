"""From bytes to assets: `prepare` does the slow part without a database, `insert_many` the rows."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, TypedDict, Unpack
from uuid import UUID

from genpulse.errors import MediaRejected
from genpulse.events import log as events
from genpulse.ids import new_id
from media import measure, refs, sniff
from media.keys import asset_key
from media.models import Asset, Kind, Origin
from media.storages import remove, write

Data = bytes | Path | BinaryIO
CHUNK = 1 << 20


class About(TypedDict, total=False):
    """What the caller knows about the bytes; `origin` is required in effect, the rest may be left out."""

    origin: str
    filename: str | None
    kind: str | None
    content_type: str | None
    task_id: UUID | None
    batch_id: UUID | None
    index: int | None
    provenance: dict[str, Any] | None
    tags: Sequence[str]
    metadata: dict[str, Any] | None
    expires_at: datetime | None


def store(account_id: UUID, data: Data, *, announce: bool = True, **about: Unpack[About]) -> Asset:
    """Keep `data` as an asset; the row and its event belong to the caller's transaction.

    Raises MediaRejected for an image bomb and for bytes that are not of the `kind` asked for.
    """
    return insert(prepare(account_id, data, **about), announce=announce)


def prepare(account_id: UUID, data: Data, **about: Unpack[About]) -> Asset:
    """Sniff, hash, measure and write the bytes: slow, needs no database. The answer is not saved yet."""
    asset_id = new_id()
    with opened(data) as file:
        asset = examine(file, **about)
        asset.id, asset.account_id = asset_id, account_id
        extension = sniff.extension_of(asset.content_type)
        asset.key = asset_key(account_id, asset_id, extension, datetime.now(UTC))
        asset.filename = clean_name(about.get("filename")) or f"{asset_id}.{extension}"
        file.seek(0)
        write(asset.key, file, asset.content_type)
    return asset


def examine(file: BinaryIO, **about: Unpack[About]) -> Asset:
    """An unsaved asset with everything the bytes tell; id, key and owner are the caller's."""
    file.seek(0)
    head = file.read(sniff.HEAD)
    content_type = sniff.settle(sniff.sniff(head), about.get("content_type"))
    origin = about.get("origin") or Origin.RESULT
    measures = measure.measure(file, content_type, trusted=origin == Origin.RESULT)
    size, digest = hashed(file)
    return Asset(
        sha256=digest,
        size=size,
        content_type=content_type,
        kind=agreed_kind(content_type, about.get("kind")),
        width=measures.width,
        height=measures.height,
        duration_seconds=measures.duration_seconds,
        origin=origin,
        task_id=about.get("task_id"),
        batch_id=about.get("batch_id"),
        index=about.get("index"),
        provenance=about.get("provenance") or {},
        tags=list(about.get("tags") or ()),
        metadata=about.get("metadata") or {},
        expires_at=about.get("expires_at"),
    )


def insert(asset: Asset, *, announce: bool = True) -> Asset:
    """The row of one prepared asset."""
    return insert_many([asset], announce=announce)[0]


def insert_many(assets: Sequence[Asset], *, announce: bool = True) -> list[Asset]:
    """The rows and `asset.created` events of prepared assets, one statement each."""
    rows = Asset.objects.bulk_create(assets)
    if announce:
        events.append([created(asset) for asset in rows])
    return rows


def discard(assets: Iterable[Asset]) -> None:
    """Erase the bytes of prepared assets that will never get a row."""
    for asset in assets:
        remove(asset.key)
        if asset.thumbnail_key:
            remove(asset.thumbnail_key)


def created(asset: Asset) -> events.NewEvent:
    return events.NewEvent(
        account=asset.account_id,
        type="asset.created",
        data={"asset": refs.persistable(asset)},
        task=asset.task_id,
        batch=asset.batch_id,
    )


@contextmanager
def opened(data: Data) -> Iterator[BinaryIO]:
    """`data` as a seekable binary file; only what was opened here is closed."""
    if isinstance(data, Path):
        with data.open("rb") as file:
            yield file
    else:
        yield BytesIO(data) if isinstance(data, bytes) else data


def hashed(file: BinaryIO) -> tuple[int, str]:
    """Size in bytes and SHA-256 in hex of the whole file."""
    file.seek(0)
    digest, size = hashlib.sha256(), 0
    while chunk := file.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def agreed_kind(content_type: str, wanted: str | None) -> str:
    """What the bytes are; the kind asked for only where they do not say.

    Raises MediaRejected when words came instead of media: an error page is not a result.
    """
    found = sniff.kind_of(content_type)
    words = found == Kind.TEXT or content_type == "text/html"
    if words and wanted in {Kind.IMAGE, Kind.VIDEO, Kind.AUDIO}:
        raise MediaRejected(f"The bytes are {content_type}, not {wanted}.")
    unsaid = found == Kind.FILE and content_type not in sniff.ACTIVE
    return Kind(wanted) if wanted and unsaid else found


def clean_name(name: str | None) -> str:
    """The last part of a file name, printable, at most 255 characters: shown, never opened."""
    last = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(char for char in last if char.isprintable()).strip()[:255]
