"""Assets go in two steps: at once for everybody (`purge`), then their bytes and row (`erase`)."""

from collections.abc import Iterable
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.db import transaction
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from genpulse.events import log as events
from media.models import Asset, Upload
from media.storages import remove
from media.uploads import key_of, staging_key

AT_ONCE = 100  # files erased by whoever deletes; the chore takes the rest


def purge(assets: Iterable[Asset]) -> int:
    """Remove `assets` in the caller's transaction, with `asset.deleted` events; the number removed.

    The bytes of the first hundred go when it commits, the others with the next sweep.
    """
    ids = [asset.id for asset in assets]
    with transaction.atomic():
        # FOR UPDATE: of two that delete the same asset, one counts and announces it.
        gone = list(
            Asset.objects.select_for_update()
            .filter(id__in=ids, deleted_at__isnull=True)
            .order_by("id")
        )
        Asset.objects.filter(id__in=[asset.id for asset in gone]).update(deleted_at=Now())
        events.append([_deleted(asset) for asset in gone])
        transaction.on_commit(partial(erase, gone[:AT_ONCE]), robust=True)
    return len(gone)


def _deleted(asset: Asset) -> events.NewEvent:
    return events.NewEvent(
        account=asset.account_id,
        type="asset.deleted",
        data={"asset_id": str(asset.id)},
        task=asset.task_id,
        batch=asset.batch_id,
    )


def erase(assets: Iterable[Asset]) -> int:
    """Delete the bytes, then the rows; a storage error leaves the rest for the next sweep."""
    erased: list[UUID] = []
    try:
        for asset in assets:
            remove(asset.key)
            if asset.thumbnail_key:
                remove(asset.thumbnail_key)
            erased.append(asset.id)
    finally:
        Asset.objects.filter(id__in=erased, deleted_at__isnull=False).delete()
    return len(erased)


def sweep(limit: int = 500) -> int:
    """Chore: purge expired assets, erase purged ones, drop uploads nobody finished; files erased."""
    purge(Asset.objects.filter(expires_at__lte=Now(), deleted_at__isnull=True)[:limit])
    _drop_uploads(limit)
    return erase(Asset.objects.filter(deleted_at__isnull=False).order_by("deleted_at")[:limit])


def _drop_uploads(limit: int) -> None:
    """An hour after they expired, so that no upload is being finished just then."""
    assets = Asset.objects.filter(id=OuterRef("id"))
    old = Upload.objects.filter(expires_at__lte=Now() - timedelta(hours=1))
    for upload in old.annotate(finished=Exists(assets))[:limit]:
        remove(staging_key(upload))
        if not upload.finished:
            remove(key_of(upload))
        upload.delete()
