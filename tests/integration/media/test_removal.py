"""Gone for everybody at once; bytes and rows follow, whatever fails in between."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.files.storage import FileSystemStorage
from django.db import transaction

from genpulse.events.models import Event
from media import removal, services
from media.models import Asset
from media.storages import StorageUnavailable
from tests.integration.media.conftest import picture

pytestmark = pytest.mark.django_db


@pytest.fixture
def three(alice):
    return [services.store(alice.account_id, picture(), origin="result") for _ in "123"]


def names(folder):
    return {path.name for path in folder.rglob("*") if path.is_file()}


def test_purge_counts_and_announces_once(
    alice, three, django_capture_on_commit_callbacks, storage_folder
):
    with django_capture_on_commit_callbacks(execute=True):
        assert services.purge(three[:2]) == 2
        assert services.purge(three[:2]) == 0
    assert names(storage_folder) == {three[2].key.rpartition("/")[2]}
    deleted = Event.objects.filter(type="asset.deleted").order_by("id")
    assert [event.data["asset_id"] for event in deleted] == [str(asset.id) for asset in three[:2]]


def test_a_rolled_back_purge_erases_nothing(three, storage_folder):
    with transaction.atomic():
        services.purge(three)
        transaction.set_rollback(True)
    assert len(names(storage_folder)) == 3
    assert Asset.objects.filter(deleted_at=None).count() == 3


def test_the_sweep_finishes_what_a_crash_left(three, storage_folder):
    services.purge(three)  # no commit here: as if the process had died after it
    assert len(names(storage_folder)) == 3
    assert services.sweep() == 3
    assert names(storage_folder) == set()
    assert not Asset.objects.exists()


def test_a_storage_that_fails_keeps_the_rows(three, monkeypatch, storage_folder):
    services.purge(three)
    real = FileSystemStorage.delete

    def fails(self, name):
        if name == three[1].key:
            raise OSError
        real(self, name)

    monkeypatch.setattr("media.storages.local.Storage.delete", fails)
    with pytest.raises(StorageUnavailable):
        services.erase(three)
    assert set(Asset.objects.values_list("id", flat=True)) == {three[1].id, three[2].id}
    monkeypatch.undo()


def test_the_rest_of_many_is_left_to_the_sweep(
    three, monkeypatch, storage_folder, django_capture_on_commit_callbacks
):
    monkeypatch.setattr(removal, "AT_ONCE", 1)
    with django_capture_on_commit_callbacks(execute=True):
        services.purge(three)
    assert len(names(storage_folder)) == 2
    assert services.sweep() == 2


def test_what_has_expired_is_purged(alice, three, storage_folder):
    past, future = (datetime.now(UTC) + timedelta(hours=hours) for hours in (-1, 1))
    Asset.objects.filter(id=three[0].id).update(expires_at=past)
    Asset.objects.filter(id=three[1].id).update(expires_at=future)
    assert services.sweep() == 1
    assert set(Asset.objects.values_list("id", flat=True)) == {three[1].id, three[2].id}
    assert Event.objects.filter(type="asset.deleted").count() == 1


def test_prepared_bytes_without_a_row_are_discarded(alice, storage_folder):
    asset = services.prepare(alice.account_id, picture(), origin="input")
    assert len(names(storage_folder)) == 1
    services.discard([asset])
    assert names(storage_folder) == set()


def test_a_write_that_fails_leaves_nothing(alice, monkeypatch, storage_folder):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("media.storages.local.os.fsync", full)
    with pytest.raises(StorageUnavailable):
        services.prepare(alice.account_id, picture(), origin="input")
    assert names(storage_folder) == set()
