"""Uploads in three steps: announce, send, finish. The asset gets the id of its upload, so it is made once."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import BinaryIO, cast
from uuid import UUID

from genpulse.errors import BodyTooLarge, NotFound, UploadMismatch
from media import sniff
from media.assets import clean_name, examine
from media.keys import asset_key, upload_key
from media.models import Asset, Origin, Upload
from media.signing import sign_path
from media.storages import UploadForm, move, read, remove, storage, write

SECONDS = 600


def staging_key(upload: Upload) -> str:
    """Where clients may write, until the upload is finished."""
    return upload_key(upload.id)


def key_of(upload: Upload) -> str:
    """Where no client can write."""
    extension = sniff.extension_of(upload.content_type)
    return asset_key(upload.account_id, upload.id, extension, upload.created_at)


def known(account_id: UUID, sha256: str) -> Asset | None:
    """The owner's asset with these bytes, if there is one already."""
    same = Asset.objects.filter(account_id=account_id, sha256=sha256, deleted_at__isnull=True)
    return same.order_by("-id").first() if sha256 else None


def announce(
    account_id: UUID, *, filename: str, content_type: str, size: int, sha256: str
) -> Upload:
    """A promise to send `size` bytes within ten minutes."""
    return Upload.objects.create(
        account_id=account_id,
        filename=clean_name(filename),
        content_type=content_type,
        size=size,
        sha256=sha256,
        expires_at=datetime.now(UTC) + timedelta(seconds=SECONDS),
    )


def where_to(upload: Upload) -> tuple[str, UploadForm]:
    """Method and form: a POST to the storage, or a signed PUT to GenPulse where files are local."""
    left = max(int((upload.expires_at - datetime.now(UTC)).total_seconds()), 1)
    form = storage().upload_form(staging_key(upload), upload.size, upload.content_type, left)
    if form is not None:
        return "POST", form
    path = f"/api/v1/media/uploads/{upload.id}/content"
    return "PUT", UploadForm(url=sign_path("upload", str(upload.id), path, left).url)


def receive(upload: Upload, body: BinaryIO | None) -> None:
    """Keep the bytes of a PUT. Raises BodyTooLarge beyond the announced size, NotFound when finished."""
    if Asset.objects.filter(id=upload.id).exists():
        raise NotFound("This upload is finished.")
    bounded = cast("BinaryIO", Bounded(body, upload.size))
    write(staging_key(upload), bounded, upload.content_type)


class Bounded:
    """A body that may not be longer than was announced; it is read once, from the start."""

    def __init__(self, body: BinaryIO | None, limit: int) -> None:
        self.body, self.limit, self.left = body, limit, limit

    def read(self, count: int = -1) -> bytes:
        data = self.body.read(count) if self.body is not None else b""
        self.left -= len(data)
        if self.left < 0:
            raise BodyTooLarge(f"{self.limit} bytes were announced.", limit=self.limit)
        return data


def verified(upload: Upload) -> Asset:
    """The asset of a sent upload, not saved yet; slow, needs no transaction, may run twice at a time.

    Raises NotFound when it has expired, UploadMismatch when nothing, or something else, was sent.
    """
    if upload.expires_at <= datetime.now(UTC):
        raise NotFound("This upload has expired.")
    key = key_of(upload)
    # A twin may have moved it; from here on no PUT can change what is examined.
    with suppress(FileNotFoundError, FileExistsError):
        move(staging_key(upload), key)
    try:
        with read(key) as file:
            asset = examine(file, origin=Origin.UPLOAD, content_type=upload.content_type)
            _compare(upload, asset)
    except FileNotFoundError:
        raise UploadMismatch("No bytes have been sent.") from None
    except Exception:
        remove(key)
        raise
    asset.id, asset.account_id, asset.key = upload.id, upload.account_id, key
    asset.filename = upload.filename or key.rpartition("/")[2]
    return asset


def _compare(upload: Upload, asset: Asset) -> None:
    if asset.size != upload.size:
        raise UploadMismatch(f"{upload.size} bytes were announced, {asset.size} were sent.")
    if upload.sha256 and asset.sha256 != upload.sha256:
        raise UploadMismatch("The SHA-256 of what was sent is another one.")
    if not sniff.agree(upload.content_type, asset.content_type):
        raise UploadMismatch(f"{upload.content_type} was announced, {asset.content_type} was sent.")
