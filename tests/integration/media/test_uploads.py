"""Announce, send, finish: once, within ten minutes, and exactly what was announced."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from genpulse.config import config
from genpulse.events.models import Event
from media import services
from media.models import Asset, Upload
from tests.integration.media.conftest import body_of, client_of, local, picture

pytestmark = pytest.mark.django_db
DATA = picture()


def start(api, data=DATA, **changes):
    body = {"filename": "kite.png", "content_type": "image/png", "size": len(data), **changes}
    return api.post("/api/v1/media/uploads", body, "application/json")


def put(client, upload, data=DATA):
    return client.put(local(upload["url"]), data, "image/png")


def finish(api, upload, **headers):
    return api.post(upload["finalize_url"], {}, "application/json", headers=headers)


def test_the_three_steps(api, client, alice, storage_folder):
    announced = start(api, sha256=hashlib.sha256(DATA).hexdigest().upper())
    assert announced.status_code == 201
    upload = announced.json()
    upload_id = upload["upload_id"]
    assert upload == {
        "upload_id": upload_id,
        "method": "PUT",
        "url": upload["url"],
        "headers": {"Content-Type": "image/png"},
        "fields": {},
        "expires_at": upload["expires_at"],
        "finalize_url": f"/api/v1/media/uploads/{upload_id}/finalize",
    }
    assert put(client, upload).status_code == 204
    first, second = finish(api, upload), finish(api, upload)
    assert (first.status_code, second.status_code) == (201, 200)
    asset = first.json()
    assert asset["id"] == second.json()["id"] == upload_id
    assert (asset["filename"], asset["origin"], asset["width"]) == ("kite.png", "upload", 40)
    assert body_of(client.get(local(asset["url"]))) == DATA
    assert [event.type for event in Event.objects.all()] == ["asset.created"]
    assert [path.name for path in storage_folder.rglob("*") if path.is_file()] == [
        asset["key"].rpartition("/")[2]
    ]
    assert put(client, upload, b"something else").status_code == 404
    assert body_of(client.get(local(asset["url"]))) == DATA


def test_known_bytes_need_not_be_sent(api, alice, stranger):
    asset = services.store(alice.account_id, DATA, origin="upload")
    known = start(api, sha256=asset.sha256)
    assert (known.status_code, known.json()["asset"]["id"]) == (200, str(asset.id))
    assert start(stranger, sha256=asset.sha256).status_code == 201


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"size": 0}, "size"),
        ({"size": "7"}, "size"),
        ({"filename": ""}, "filename"),
        ({"content_type": "image"}, "content_type"),
        ({"content_type": "image/png\r\nX: y"}, "content_type"),
        ({"sha256": "abc"}, "sha256"),
        ({"key": "t/other"}, "key"),
    ],
)
def test_an_unreadable_announcement(api, changes, field):
    answer = start(api, **changes)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


def test_sizes_are_kept(api, client, monkeypatch):
    upload = start(api).json()
    assert put(client, upload, DATA + b"x").status_code == 413
    assert finish(api, upload).json()["code"] == "upload_mismatch"
    assert put(client, upload, DATA[:-1]).status_code == 204
    assert finish(api, upload).json()["code"] == "upload_mismatch"
    assert put(client, upload, DATA).status_code == 204
    assert finish(api, upload).status_code == 201
    monkeypatch.setattr(config, "max_upload_bytes", 10)
    assert start(api).status_code == 413


@pytest.mark.parametrize(
    ("announced", "sent", "agrees"),
    [
        ({"content_type": "image/png"}, picture(form="GIF"), False),
        ({"content_type": "text/plain"}, b"<html><script>", False),
        ({"content_type": "application/x-model"}, DATA, False),
        ({"content_type": "image/png"}, b"no picture at all", False),
        ({"sha256": "0" * 64}, DATA, False),
        ({"content_type": "image/jpg"}, picture(form="JPEG"), True),
        ({"content_type": "application/octet-stream"}, DATA, True),
        ({"content_type": "text/csv"}, b"a,b\n1,2", True),
        ({"content_type": "audio/webm"}, b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm", True),
        ({"content_type": "audio/x-wav"}, b"RIFF\x24\0\0\0WAVEfmt ", True),
        ({"content_type": "application/x-model"}, b"\x93\x01\x02\x03", True),
        ({"content_type": "image/svg+xml"}, b"<svg xmlns='x'/>", True),
    ],
)
def test_what_was_announced_must_come(api, client, announced, sent, agrees, storage_folder):
    upload = start(api, sent, **announced).json()
    assert put(client, upload, sent).status_code == 204
    answer = finish(api, upload)
    if agrees:
        assert answer.status_code == 201
        return
    assert (answer.status_code, answer.json()["code"]) == (422, "upload_mismatch")
    assert not Asset.objects.exists()
    assert not [path for path in storage_folder.rglob("*") if path.is_file()]


def test_a_bomb_is_refused_when_it_is_finished(api, client):
    bomb = bytearray(DATA)
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    upload = start(api, bytes(bomb)).json()
    put(client, upload, bytes(bomb))
    assert finish(api, upload).json()["code"] == "media_rejected"


def test_only_the_owner_finishes_and_only_the_signature_sends(api, stranger, client):
    upload = start(api).json()
    other = start(stranger).json()
    assert client.put(local(upload["url"]).partition("?")[0], DATA, "image/png").status_code == 403
    stolen = local(upload["url"]).replace(upload["upload_id"], other["upload_id"])
    assert client.put(stolen, DATA, "image/png").status_code == 403
    assert put(client, upload).status_code == 204
    assert finish(stranger, upload).status_code == 404
    assert stranger.post("/api/v1/media/uploads/7/finalize").status_code == 404
    assert client.post(upload["finalize_url"]).status_code == 401


def test_it_expires(api, client, monkeypatch):
    upload = start(api).json()
    put(client, upload)
    Upload.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert finish(api, upload).status_code == 404


def test_an_idempotency_key_announces_and_finishes_once(api, client):
    once = {"Idempotency-Key": "u-1"}
    body = {"filename": "a", "content_type": "image/png", "size": len(DATA)}
    first, again = (
        api.post("/api/v1/media/uploads", body, "application/json", headers=once) for _ in "12"
    )
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json()["upload_id"] == again.json()["upload_id"]
    put(client, again.json())
    finished = [
        api.post(first.json()["finalize_url"], {}, "application/json", headers=once) for _ in "12"
    ]
    assert [answer.status_code for answer in finished] == [201, 201]
    assert finished[1].json()["url"].startswith("http")


@pytest.mark.django_db(transaction=True)
def test_many_finish_at_once_and_one_creates(alice, client):
    """Moves, examinations and inserts interleave; the id of the upload decides."""
    api = client_of(alice)
    upload = start(api).json()
    put(client, upload)

    def once(_):
        try:
            return finish(api, upload).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(16) as pool:
        statuses = list(pool.map(once, range(64)))
    assert sorted(statuses) == [200] * 63 + [201]
    assert Asset.objects.count() == 1
    assert Event.objects.filter(type="asset.created").count() == 1


def test_the_sweep_takes_what_nobody_finished(api, client, storage_folder):
    upload, done = start(api).json(), start(api).json()
    put(client, upload)
    put(client, done)
    finish(api, done)
    services.sweep()
    assert Upload.objects.count() == 2
    Upload.objects.update(expires_at=datetime.now(UTC) - timedelta(hours=2))
    services.sweep()
    assert not Upload.objects.exists()
    kept = [path.name for path in storage_folder.rglob("*") if path.is_file()]
    assert kept == [Asset.objects.get().key.rpartition("/")[2]]
    assert finish(api, done).status_code == 200
