"""One story, told by every storage: no code above them knows which it is."""

import io

import pytest
import requests
from django.core.files.storage import storages

from genpulse.config import config
from media import services
from media import storages as ours
from media.models import Asset
from tests.emulators.base import answered
from tests.emulators.objects import ObjectStore, object_store  # noqa: F401 - a fixture
from tests.integration.media.conftest import body_of, local, picture

pytestmark = pytest.mark.django_db
REMOTE = {
    "s3": {
        "s3_access_key": "key",
        "s3_secret_key": "secret",
        "s3_bucket_name": "bucket",
        "s3_region_name": "us-east-1",
    },
    "oss": {"oss_access_key": "key", "oss_secret_key": "secret", "oss_bucket": "bucket"},
}


@pytest.fixture(params=REMOTE)
def remote(request, object_store: ObjectStore, monkeypatch, settings):  # noqa: F811
    """The emulated store behind `storage()`."""
    for name, value in REMOTE[request.param].items():
        monkeypatch.setattr(config, name, value)
    monkeypatch.setattr(config, "s3_endpoint_url", object_store.url)
    monkeypatch.setattr(config, "oss_endpoint", object_store.url)
    backend = f"media.storages.{request.param}.Storage"
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": backend}}
    return object_store


def test_an_asset_is_stored_signed_read_and_erased(remote, alice, api):
    asset = services.store(alice.account_id, picture(), origin="upload", filename="ä b.png")
    assert remote.objects == {asset.key: picture()}
    assert remote.types[asset.key] == "image/png"
    shown = api.get(f"/api/v1/assets/{asset.id}").json()
    assert shown["url"].startswith(f"{remote.url}/bucket/{asset.key}?")
    answer = requests.get(shown["url"], timeout=30)
    assert answer.content == picture()
    assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''%C3%A4%20b.png"
    forced = requests.get(services.sign(asset, download=True).url, timeout=30)
    assert forced.headers["Content-Disposition"].startswith("attachment;")
    streamed = api.get(
        f"/api/v1/assets/{asset.id}/content?redirect=0", headers={"Range": "bytes=1-3"}
    )
    assert body_of(streamed) == b"PNG"
    services.purge([asset])
    services.sweep()
    assert remote.objects == {}


def test_raw_results_are_replaced_and_missing_ones_say_so(remote):
    task = Asset().id
    services.write_raw(task, 1, 0, b"a", "text/plain")
    key = services.write_raw(task, 1, 0, io.BytesIO(b"b"), "text/plain")
    with services.open_raw(key) as file:
        assert file.read() == b"b"
    services.delete_raw(key)
    with pytest.raises(FileNotFoundError):
        services.open_raw(key)


def test_an_upload_goes_straight_to_the_store(remote, api):
    body = {"filename": "kite.png", "content_type": "image/png", "size": len(picture())}
    upload = api.post("/api/v1/media/uploads", body, "application/json").json()
    assert upload["method"] == "POST"
    assert upload["url"].startswith(remote.url)
    assert upload["fields"]["key"] == f"u/{upload['upload_id'].replace('-', '')}"

    def send(data):
        return requests.post(upload["url"], upload["fields"], files={"file": data}, timeout=30)

    def finish():
        return api.post(upload["finalize_url"], {}, "application/json")

    assert finish().json()["code"] == "upload_mismatch"
    assert send(picture() + b"more").status_code == 400
    assert send(picture()).status_code == 204
    assert finish().status_code == 201
    assert list(remote.objects) == [Asset.objects.get().key]
    assert finish().status_code == 200


def test_moving_never_replaces(remote, storage_folder):
    storage = ours.storage()
    services.write_raw(Asset().id, 1, 0, b"x", "text/plain")
    ours.write("u/a", io.BytesIO(b"new"), "text/plain")
    ours.write("t/a", io.BytesIO(b"old"), "text/plain")
    with pytest.raises(FileExistsError):
        storage.move("u/a", "t/a")
    with pytest.raises(FileNotFoundError):
        storage.move("u/none", "t/b")
    storage.move("u/a", "t/c")
    assert (remote.objects["t/a"], remote.objects["t/c"]) == (b"old", b"new")
    assert not storage.exists("u/a")


def test_the_setting_chooses_the_module(settings):
    assert settings.STORAGES["default"]["BACKEND"] == "media.storages.local.Storage"
    assert type(storages["default"]).__module__ == "media.storages.local"


def test_local_urls_are_our_own(alice, client):
    asset = services.store(alice.account_id, b"hello", origin="upload")
    assert body_of(client.get(local(services.reference(asset)["url"]))) == b"hello"


@pytest.mark.parametrize("deed", ["write", "read", "move", "remove"])
def test_out_of_reach_is_one_error_whatever_the_vendor(remote, deed):
    deeds = {
        "write": lambda: ours.write("t/a", io.BytesIO(b"x"), "text/plain"),
        "read": lambda: ours.read("t/a"),
        "move": lambda: ours.move("t/a", "t/b"),
        "remove": lambda: ours.remove("t/a"),
    }
    remote.objects["t/a"], remote.types["t/a"] = b"x", "text/plain"
    for path in ("/bucket/t/a", "/bucket/t/b"):
        for method in ("PUT", "GET", "HEAD", "DELETE"):
            remote.next(method, path, *[answered(403)] * 5)
    with pytest.raises(ours.StorageUnavailable) as refusal:
        deeds[deed]()
    assert (refusal.value.status, refusal.value.extra) == (503, {"retry_after": 5})
    assert isinstance(refusal.value, OSError)
    assert str(refusal.value) == "The storage of files does not answer, or is full"


def test_an_upload_meets_a_full_disk(api, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("media.storages.local.os.fsync", full)
    answer = api.post("/api/v1/media", {"file": io.BytesIO(b"hello")})
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["Retry-After"] == "5"
