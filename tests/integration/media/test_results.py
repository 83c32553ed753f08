"""What tasks make: paid for, so it is kept; but words instead of a picture are no result."""

import io

import pytest

from genpulse.errors import MediaRejected, ValidationFailed
from genpulse.events.models import Event
from genpulse.ids import new_id
from media import services
from media.models import Asset
from tests.integration.media.conftest import picture
from tests.unit.test_media_headers import png

pytestmark = pytest.mark.django_db


def result(alice, data, **about):
    return services.prepare(alice.account_id, data, origin="result", **about)


def test_a_batch_of_results_is_one_insert_and_one_append(alice, django_assert_num_queries):
    task, batch = new_id(), new_id()
    prepared = [
        result(alice, picture(), kind="image", task_id=task, batch_id=batch, index=n)
        for n in range(5)
    ]
    with django_assert_num_queries(2):
        rows = services.insert_many(prepared)
    assert [row.created_at is not None for row in rows] == [True] * 5
    assert {(event.type, event.task_id, event.batch_id) for event in Event.objects.all()} == {
        ("asset.created", task, batch)
    }
    services.insert_many([result(alice, b"x")], announce=False)
    assert Event.objects.count() == 5


def test_a_reference_is_kept_without_a_url_and_signed_when_read(alice):
    asset = services.insert(result(alice, picture(), filename="kite.png"))
    kept = services.persistable(asset)
    assert kept == {
        "id": str(asset.id),
        "key": asset.key,
        "kind": "image",
        "content_type": "image/png",
        "width": 40,
        "height": 30,
        "duration_seconds": None,
        "size": len(picture()),
        "sha256": asset.sha256,
        "filename": "kite.png",
    }
    shown = services.with_url(kept)
    assert list(shown) == [
        "id", "kind", "content_type", "url", "url_expires_at", "width", "height",
        "duration_seconds", "size", "sha256", "filename",
    ]  # fmt: skip
    assert shown["url"].partition("?")[0].endswith(f"/assets/{asset.key}")


def test_a_signature_lives_from_a_minute_to_a_day(alice):
    asset = services.insert(result(alice, picture()))
    for ttl, code in ((59, "too_small"), (86_401, "too_large")):
        with pytest.raises(ValidationFailed) as refusal:
            services.sign(asset, ttl)
        assert [(error.field, error.code) for error in refusal.value.errors] == [("ttl", code)]


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
@pytest.mark.parametrize("data", [b"<html>503", b"Service Unavailable", b'{"error": "quota"}'])
def test_an_error_page_is_no_result(alice, data, kind, storage_folder):
    with pytest.raises(MediaRejected):
        result(alice, data, kind=kind)
    assert not storage_folder.exists()


@pytest.mark.parametrize(
    ("data", "wanted", "declared", "kind", "content_type"),
    [
        (png(12_000, 12_000), "image", None, "image", "image/png"),
        (picture()[:20], "image", None, "image", "image/png"),
        (b"\x00\x00\x00\x18ftypisom\0\0\0\0", "image", None, "video", "video/mp4"),
        (b"\xff\x0a\xfa\x7f\x01\x90\x08", "image", "image/jxl", "image", None),
        (b"\x01\x02\x03\x04", "audio", "audio/aac", "audio", "audio/aac"),
        (b"\x01\x02\x03\x04", "video", None, "video", None),
        (b"<svg xmlns='x'/>", "image", "image/svg+xml", "file", "image/svg+xml"),
        (b"hello", None, None, "text", "text/plain"),
        (b"hello", "file", None, "text", "text/plain"),
    ],
)
def test_the_bytes_say_what_they_are(alice, data, wanted, declared, kind, content_type):
    asset = services.insert(result(alice, data, kind=wanted, content_type=declared))
    assert asset.kind == kind
    assert content_type in {None, asset.content_type}
    assert asset.key.rpartition(".")[2] in {"png", "mp4", "bin", "aac", "txt"}


def test_bytes_path_and_file_are_the_same(alice, tmp_path):
    path = tmp_path / "kite"
    path.write_bytes(picture())
    file = io.BytesIO(b"prefix" + picture())
    file.seek(6)
    assets = [result(alice, data) for data in (picture(), path, io.BytesIO(picture()))]
    assert len({(asset.sha256, asset.size, asset.content_type) for asset in assets}) == 1
    assert len({asset.key for asset in assets}) == 3
    assert not Asset.objects.exists()
