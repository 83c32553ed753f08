"""What a request brings along: data URIs, references and addresses."""

import base64
import io
import socket
from typing import Any

import pytest

from genpulse.config import config
from genpulse.errors import AssetNotFound, MediaRejected, UrlNotAllowed
from genpulse.ids import new_id
from media import inputs, services
from media.models import Asset
from tests.integration.media.conftest import picture
from tests.integration.media.wire import Resolver, Server, plain

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def internet(monkeypatch):
    """Names are public, except `inside.example`."""
    resolver = Resolver("8.8.8.8")
    resolver.names["inside.example"] = [["10.0.0.1"]]
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    monkeypatch.setattr(config, "outbound_allowed_hosts", [])


def uri(data: bytes, content_type: str = "image/png") -> str:
    return f"data:{content_type};base64,{base64.b64encode(data).decode()}"


def files(folder) -> int:
    return len([path for path in folder.rglob("*") if path.is_file()])


class TestDataUris:
    def test_a_request_with_pictures_everywhere(self, alice, storage_folder):
        """Fields, chat messages and vendor parameters alike: bytes go to the store, ids stay."""
        value: dict[str, Any] = {
            "prompt": "data:image/png;base64 is how it begins",
            "images": [uri(picture()), "https://example.com/a.png"],
            "messages": [
                {"content": [{"type": "image_url", "image_url": {"url": uri(picture(9, 9))}}]}
            ],
            "params": {"deep": [{"style": uri(b"hello", "text/plain;charset=utf-8")}], "n": 1},
        }
        new, prepared = services.adopt_data_uris(alice.account_id, value)
        assert new == {
            "prompt": value["prompt"],
            "images": [f"asset:{prepared[0].id}", "https://example.com/a.png"],
            "messages": [
                {
                    "content": [
                        {"type": "image_url", "image_url": {"url": f"asset:{prepared[1].id}"}}
                    ]
                }
            ],
            "params": {"deep": [{"style": f"asset:{prepared[2].id}"}], "n": 1},
        }
        assert value["images"][0].startswith("data:"), "the caller's value is left alone"
        assert not Asset.objects.exists()
        services.insert_many(prepared)
        assert [(a.kind, a.origin, a.width) for a in Asset.objects.order_by("id")] == [
            ("image", "input", 40),
            ("image", "input", 9),
            ("text", "input", None),
        ]
        assert files(storage_folder) == 3

    @pytest.mark.parametrize(
        ("value", "field", "why"),
        [
            (
                {"images": [uri(picture()), "data:image/png;base64,####"]},
                "input.images.1",
                "base64",
            ),
            ({"a": {"b": "data:image/png;base64,iVBORw0KGgo"}}, "input.a.b", "base64"),
            ({"a": "data:image/png;base64,AAAA\nAAAA"}, "input.a", "base64"),
            ({"a": uri(b"<svg/>", "image/svg+xml")}, "input.a", "jpeg, png, webp or gif"),
            ({"a": uri(b"<html>", "image/png")}, "input.a", "jpeg, png, webp or gif"),
            ({"images": [uri(b"%PDF-1.4", "application/pdf")]}, "input.images.0", "jpeg, png"),
            ({"mask": uri(picture()[:20])}, "input.mask", "cannot be read"),
            ({"a": uri(b"")}, "input.a", "jpeg"),
        ],
    )
    def test_a_bad_one_names_its_field_and_leaves_nothing(
        self, alice, storage_folder, value, field, why
    ):
        with pytest.raises(MediaRejected, match=why) as refusal:
            services.adopt_data_uris(alice.account_id, value)
        assert [error.field for error in refusal.value.errors] == [field]
        assert files(storage_folder) == 0

    def test_their_number_and_size_are_bounded(self, alice, monkeypatch, storage_folder):
        monkeypatch.setattr(inputs, "MOST", 2)
        with pytest.raises(MediaRejected, match="More than 2"):
            services.adopt_data_uris(alice.account_id, [uri(b"a", "text/plain")] * 3)
        monkeypatch.setattr(config, "max_upload_bytes", 4)
        with pytest.raises(MediaRejected, match="too large"):
            services.adopt_data_uris(alice.account_id, [uri(b"abcde", "text/plain")], "params")
        assert files(storage_folder) == 0


class TestReferences:
    @pytest.fixture
    def own(self, alice) -> Asset:
        return services.store(alice.account_id, picture(), origin="upload")

    @pytest.fixture
    def sound(self, alice) -> Asset:
        return services.store(alice.account_id, b"ID3\x04" + b"\0" * 20, origin="upload")

    def test_bare_ids_become_references_in_media_fields_only(self, alice, own, sound):
        value = {
            "prompt": str(own.id),
            "images": [str(own.id), f"asset:{own.id}", "https://example.com/a.png", uri(b"x")],
            "mask": str(own.id),
            "audio": str(sound.id),
            "seed": 7,
            "nested": {"images": [str(own.id)]},
        }
        assert services.resolve_inputs(alice.account_id, value) == {
            **value,
            "images": [
                f"asset:{own.id}",
                f"asset:{own.id}",
                "https://example.com/a.png",
                uri(b"x"),
            ],
            "mask": f"asset:{own.id}",
            "audio": f"asset:{sound.id}",
        }

    def test_one_query_for_all(self, alice, own, django_assert_num_queries):
        with django_assert_num_queries(1):
            services.resolve_inputs(
                alice.account_id, {"images": [str(own.id)] * 9, "mask": str(own.id)}
            )
        with django_assert_num_queries(0):
            services.resolve_inputs(alice.account_id, {"prompt": "a kite"})

    @pytest.mark.parametrize(
        ("make", "field"),
        [
            (lambda ref: {"images": ["https://example.com/", ref]}, "input.images.1"),
            (lambda ref: {"video": ref}, "input.video"),
            (lambda ref: {"parameters": {"x": [f"asset:{ref}"]}}, "input.parameters.x.0"),
            (lambda ref: {"prompt": f"asset:{ref}"}, "input.prompt"),
            (
                lambda ref: {"messages": [{"image_url": {"url": ref}}]},
                "input.messages.0.image_url.url",
            ),
            (lambda _: {"images": ["asset:7"]}, "input.images.0"),
        ],
    )
    def test_foreign_deleted_and_unknown_ones_do_not_exist(self, alice, bob, own, make, field):
        foreign = services.store(bob.account_id, picture(), origin="upload")
        services.purge([own])
        for asset_id in (foreign.id, own.id, new_id()):
            with pytest.raises(AssetNotFound) as refusal:
                services.resolve_inputs(alice.account_id, make(str(asset_id)))
            assert [error.field for error in refusal.value.errors] == [field]

    def test_a_reference_in_plain_words_is_text(self, alice):
        value = {"prompt": "asset: a tree", "negative_prompt": "asset:none"}
        assert services.resolve_inputs(alice.account_id, value) == value

    def test_the_kind_must_fit(self, alice, own, sound):
        text = services.store(alice.account_id, b"hello", origin="upload")
        for value in (
            {"images": [f"asset:{sound.id}"]},
            {"mask": f"asset:{text.id}"},
            {"video": f"asset:{own.id}"},
            {"audio": f"asset:{text.id}"},
        ):
            with pytest.raises(MediaRejected):
                services.resolve_inputs(alice.account_id, value)

    @pytest.mark.parametrize(
        ("value", "field"),
        [
            ({"images": ["https://inside.example/a.png"]}, "input.images.0"),
            ({"video": "http://127.0.0.1/"}, "input.video"),
            ({"audio": "file:///etc/passwd"}, "input.audio"),
            ({"mask": "kite.png"}, "input.mask"),
            ({"messages": [{"image_url": "http://10.0.0.1/"}]}, "input.messages.0.image_url"),
        ],
    )
    def test_addresses_pass_the_guard(self, alice, value, field):
        with pytest.raises(UrlNotAllowed) as refusal:
            services.resolve_inputs(alice.account_id, value)
        assert [error.field for error in refusal.value.errors] == [field]


class TestLoading:
    def test_a_worker_reads_an_asset_without_the_database(self, alice, django_assert_num_queries):
        asset = services.store(alice.account_id, picture(), origin="upload", filename="a.png")
        gone = new_id()
        value = {"images": [f"asset:{asset.id}", f"asset:{gone}", "https://example.com/"]}
        with django_assert_num_queries(1):
            files = services.input_files(alice.account_id, value)
        assert list(files) == [f"asset:{asset.id}"]
        with django_assert_num_queries(0):
            opener, content_type = services.load_input(files[f"asset:{asset.id}"])
            with opener() as file:
                assert file.read() == picture()
        assert content_type == "image/png"

    def test_a_url_is_downloaded_and_its_type_looked_at(self, monkeypatch):
        server = Server(plain(picture(), "text/html"))
        monkeypatch.setattr(config, "outbound_allowed_hosts", [f"127.0.0.1:{server.port}"])
        opener, content_type = services.load_input(server.url)
        with opener() as file:
            assert file.read() == picture()
        assert content_type == "image/png"
        monkeypatch.setattr(config, "max_upload_bytes", 10)
        with pytest.raises(services.FetchError):
            services.load_input(server.url)
        server.close()


def test_raw_results_are_kept_under_task_attempt_and_index(storage_folder):
    task = new_id()
    key = services.write_raw(task, 2, 0, b"first", "image/png")
    assert key == f"r/{task.hex}/2/0"
    assert services.write_raw(task, 2, 0, io.BytesIO(b"again"), "image/png") == key
    with services.open_raw(key) as file:
        assert file.read() == b"again"
    services.delete_raw(key)
    services.delete_raw(key)
    with pytest.raises(FileNotFoundError):
        services.open_raw(key)
    assert files(storage_folder) == 0


def test_slow_name_servers_hold_a_request_for_ten_seconds_at_most(alice, monkeypatch):
    monkeypatch.setattr(inputs, "CHECK_SECONDS", -1)
    with pytest.raises(UrlNotAllowed, match="too slowly"):
        services.resolve_inputs(alice.account_id, {"images": ["https://example.com/"] * 3})
