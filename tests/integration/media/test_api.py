"""Assets over HTTP: sending, finding, reading and deleting them."""

import hashlib
import json
from uuid import UUID

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile as File

from genpulse.auth.models import Account
from genpulse.config import config
from genpulse.events.models import Event
from genpulse.ids import new_id
from media import services
from media.models import Asset
from tests.integration.media.conftest import body_of, client_of, local, picture

pytestmark = pytest.mark.django_db


def send(api, data=None, name="kite.png", headers=None, **fields):
    form = {"file": File(name, picture() if data is None else data), **fields}
    return api.post("/api/v1/media", form, headers=headers)


class TestOneRequest:
    def test_a_picture_is_sniffed_measured_hashed_and_announced(self, api, alice):
        data = picture(40, 30)
        answer = send(
            api, data, "my ☂ kite.html", tags=json.dumps(["a"]), metadata=json.dumps({"order": 7})
        )
        assert answer.status_code == 201
        asset = answer.json()
        url, until = asset.pop("url"), asset.pop("url_expires_at")
        assert url.startswith(config.base_url + "/assets/t/")
        assert until.endswith("Z")
        assert asset == {
            "id": asset["id"],
            "object": "asset",
            "kind": "image",
            "content_type": "image/png",
            "size": len(data),
            "sha256": hashlib.sha256(data).hexdigest(),
            "width": 40,
            "height": 30,
            "duration_seconds": None,
            "filename": "my ☂ kite.html",
            "key": f"t/{alice.account_id.hex}/{asset['created_at'][:7].replace('-', '')}/{UUID(asset['id']).hex}.png",
            "thumbnail_url": None,
            "origin": "upload",
            "task_id": None,
            "batch_id": None,
            "index": None,
            "provenance": {},
            "tags": ["a"],
            "metadata": {"order": 7},
            "user": "alice",
            "created_at": asset["created_at"],
            "expires_at": None,
        }
        event = Event.objects.get()
        assert (event.type, event.account_id) == ("asset.created", alice.account_id)
        assert event.data["asset"]["key"] == asset["key"]
        assert "url" not in event.data["asset"]

    def test_an_idempotency_key_makes_one_asset(self, api, storage_folder):
        once = {"Idempotency-Key": "order-1"}
        first, again = send(api, headers=once), send(api, headers=once)
        assert (first.status_code, again.status_code) == (201, 201)
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.json()["id"] == first.json()["id"]
        assert again.json()["url"].startswith("http")
        other = send(api, picture(5, 5), headers=once)
        assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
        assert Asset.objects.count() == 1
        assert len([path for path in storage_folder.rglob("*") if path.is_file()]) == 1

    @pytest.mark.parametrize(
        ("form", "field", "code"),
        [
            ({}, "file", "required"),
            ({"file": [File("a", b"1"), File("b", b"2")]}, "file", "exclusive"),
            ({"file": [File(f"{n}", b"1") for n in range(17)]}, "file", "too_long"),
            ({"file": File("a", b"1"), "other": File("b", b"2")}, "other", "unknown"),
            ({"file": File("a", b"1"), "colour": '"red"'}, "colour", "unknown"),
            ({"file": File("a", b"1"), "tags": "red"}, "tags", "format"),
            ({"file": File("a", b"1"), "tags": '["\\u0000"]'}, "tags.0", "format"),
            ({"file": File("a", b"1"), "metadata": '{"a": "\\ud800"}'}, "metadata.a", "format"),
            ({"file": File("a", b"1"), "tags": '"red"'}, "tags", "type"),
            ({"file": File("a", b"1"), "tags": '[""]'}, "tags.0", "empty"),
            (
                {"file": File("a", b"1"), "metadata": '{"a": "' + "x" * 8200 + '"}'},
                "metadata",
                "too_long",
            ),
        ],
    )
    def test_a_wrong_form_names_its_field(self, api, form, field, code):
        answer = api.post("/api/v1/media", form)
        assert answer.status_code == 422
        assert [(item["field"], item["code"]) for item in answer.json()["errors"]] == [
            (field, code)
        ]
        assert not Asset.objects.exists()

    def test_a_file_above_the_limit_is_refused(self, api, monkeypatch):
        monkeypatch.setattr(config, "max_upload_bytes", 100)
        answer = send(api, b"x" * 101)
        assert (answer.status_code, answer.json()["limit"]) == (413, 100)
        assert send(api, b"x" * 100).status_code == 201

    def test_a_blocked_user_uploads_nothing(self, api, alice):
        Account.objects.update(uploads_blocked=True)
        assert send(api).status_code == 403
        start = {"filename": "a", "content_type": "image/png", "size": 1}
        assert api.post("/api/v1/media/uploads", start, "application/json").status_code == 403

    def test_json_is_the_wrong_body(self, api):
        assert api.post("/api/v1/media", {}, "application/json").status_code == 415

    @pytest.mark.django_db(transaction=True)
    def test_a_service_key_uploads_for_a_user_it_names_first(self, bob):
        service = client_of(bob, scopes=["media", "act_as"])
        assert (
            send(service, b"\x89PNG\r\n\x1a\n", headers={"X-GenPulse-User": "carol"}).status_code
            == 422
        )
        assert not Account.objects.filter(name="carol").exists()
        answer = send(service, headers={"X-GenPulse-User": "carol"})
        assert answer.json()["user"] == "carol"

    def test_a_key_without_the_scope_is_refused(self, alice):
        reader = client_of(alice, scopes=["media:read"])
        answer = send(reader)
        assert (answer.status_code, answer.json()["scope"]) == (403, "media")
        assert reader.get("/api/v1/assets").status_code == 200


class TestReading:
    @pytest.fixture
    def asset(self, api):
        return send(api).json()

    def test_a_signed_url_gives_the_bytes_to_anybody(self, asset, client):
        answer = client.get(local(asset["url"]))
        assert answer.status_code == 200
        assert body_of(answer) == picture()

    def test_content_redirects_there_or_streams(self, api, asset, client):
        path = f"/api/v1/assets/{asset['id']}/content"
        there = api.get(path)
        assert there.status_code == 302
        assert body_of(client.get(local(there.headers["Location"]))) == picture()
        assert body_of(api.get(f"{path}?redirect=0")) == picture()
        piece = api.get(f"{path}?redirect=0", headers={"Range": "bytes=0-3"})
        assert (piece.status_code, body_of(piece)) == (206, b"\x89PNG")
        assert api.get(f"{path}?redirect=maybe").status_code == 422

    def test_sign_takes_its_time_and_forces_a_download(self, api, asset, client):
        path = f"/api/v1/assets/{asset['id']}/sign"
        answer = api.post(path, {"ttl": 60, "download": True}, "application/json")
        assert answer.status_code == 200
        served = client.get(local(answer.json()["url"]))
        assert served.headers["Content-Disposition"].startswith("attachment;")
        body_of(served)
        for ttl in (59, 86401):
            assert api.post(path, {"ttl": ttl}, "application/json").status_code == 422
        assert api.post(path, {}, "application/json").status_code == 200

    def test_a_foreign_asset_does_not_exist(self, stranger, asset):
        path = f"/api/v1/assets/{asset['id']}"
        for answer in (
            stranger.get(path),
            stranger.get(f"{path}/content"),
            stranger.post(f"{path}/sign", {}, "application/json"),
            stranger.delete(path),
            stranger.get("/api/v1/assets/none"),
            stranger.get(f"/api/v1/assets/{new_id()}"),
        ):
            assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
        assert Asset.objects.get().deleted_at is None

    def test_delete_ends_signed_urls_at_once(
        self, api, asset, client, storage_folder, django_capture_on_commit_callbacks
    ):
        with django_capture_on_commit_callbacks(execute=True):
            assert api.delete(f"/api/v1/assets/{asset['id']}").status_code == 204
        assert api.get(f"/api/v1/assets/{asset['id']}").status_code == 404
        assert client.get(local(asset["url"])).status_code == 404
        assert api.delete(f"/api/v1/assets/{asset['id']}").status_code == 404
        assert not (storage_folder / asset["key"]).exists()
        assert not Asset.objects.exists()
        event = Event.objects.latest("id")
        assert (event.type, event.data) == ("asset.deleted", {"asset_id": asset["id"]})


class TestList:
    @pytest.fixture
    def gallery(self, alice, bob):
        task = new_id()
        keep = services.store
        return {
            "task": task,
            "red": keep(
                alice.account_id,
                picture(),
                origin="result",
                task_id=task,
                index=0,
                provenance={"model": "sandbox-image", "prompt": "a RED kite"},
            ),
            "text": keep(
                alice.account_id, b"hello", origin="upload", filename="red.txt", tags=["a"]
            ),
            "other": keep(alice.account_id, picture(9, 9), origin="upload", tags=["a", "b"]),
            "bobs": keep(bob.account_id, picture(), origin="upload"),
        }

    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ("", ["other", "text", "red"]),
            ("order=asc", ["red", "text", "other"]),
            ("kind=image", ["other", "red"]),
            ("content_type=text/plain", ["text"]),
            ("origin=result", ["red"]),
            ("model=sandbox-image", ["red"]),
            ("tag=a", ["other", "text"]),
            ("q=red", ["text", "red"]),
            ("q=%25", []),
            ("created_before=2020-01-01T00:00:00Z", []),
            ("created_after=2020-01-01T00:00:00%2B02:00", ["other", "text", "red"]),
            ("kind=image&tag=b&unheard=of", ["other"]),
        ],
    )
    def test_filters(self, api, gallery, query, names):
        answer = api.get(f"/api/v1/assets?{query}")
        assert answer.status_code == 200
        assert [item["id"] for item in answer.json()["items"]] == [
            str(gallery[name].id) for name in names
        ]

    def test_by_task(self, api, gallery):
        answer = api.get(f"/api/v1/assets?task_id={gallery['task']}").json()
        assert [item["id"] for item in answer["items"]] == [str(gallery["red"].id)]
        assert answer["items"][0]["provenance"]["prompt"] == "a RED kite"

    @pytest.mark.parametrize(
        "query",
        [
            "q=%00",
            "tag=%00",
            "model=a%00b",
            "content_type=%00",
            "kind=picture",
            "origin=sky",
            "task_id=7",
            "created_after=2020-01-01T00:00:00",
            "limit=0",
            "cursor=x",
        ],
    )
    def test_unreadable_filters(self, api, query):
        assert api.get(f"/api/v1/assets?{query}").status_code == 422

    def test_pages(self, api, gallery):
        first = api.get("/api/v1/assets?limit=2").json()
        assert (first["has_more"], len(first["items"])) == (True, 2)
        rest = api.get(f"/api/v1/assets?limit=2&cursor={first['next_cursor']}").json()
        assert (rest["has_more"], len(rest["items"])) == (False, 1)
