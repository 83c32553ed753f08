"""`/assets/<key>`: signatures, ranges, and headers that keep user content from running."""

import time
from datetime import UTC, datetime

import pytest
from django.test import Client

from genpulse.errors import MediaRejected
from genpulse.ids import new_id
from media import services, signing
from media.keys import asset_key
from media.models import Asset
from tests.integration.media.conftest import body_of, local, picture

pytestmark = pytest.mark.django_db
DATA = bytes(range(256)) * 4


@pytest.fixture
def asset(alice) -> Asset:
    return services.store(alice.account_id, DATA, origin="upload", filename="a.bin")


def url_of(asset, **options) -> str:
    return local(services.sign(asset, **options).url)


class TestSignature:
    def test_every_change_is_refused(self, asset, client):
        url = url_of(asset)
        path, _, query = url.partition("?")
        exp, sig = (pair.split("=")[1] for pair in query.split("&"))
        other = asset_key(asset.account_id, new_id(), "bin", datetime.now(UTC))
        forged = [
            path,
            f"{path}?exp={exp}",
            f"{path}?sig={sig}",
            f"{path}?exp={int(exp) + 1}&sig={sig}",
            f"{path}?exp={exp}&sig={sig[:-1]}",
            f"{path}?exp={exp}&sig={sig}A",
            f"{path}?exp={exp}&sig={sig.swapcase()}",
            f"{path}?exp={exp}&sig=",
            f"{path}?exp={exp}&sig={sig}&download=1",
            f"{path}?exp=+{exp}&sig={sig}",
            f"{path}?exp={exp}.0&sig={sig}",
            f"{path}?exp=\u0661&sig={sig}",
            f"{path}?exp={'9' * 5000}&sig={sig}",
            f"{path}x?{query}",
            f"/assets/{other}?{query}",
        ]
        forged += [
            f"{path}?exp={exp}&sig={sig[:at]}{'A' if sig[at] != 'A' else 'B'}{sig[at + 1 :]}"
            for at in range(42)
        ]
        for one in forged:
            answer = client.get(one)
            assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), one
        body_of(client.get(url))

    def test_it_expires(self, asset, client, monkeypatch):
        url = url_of(asset, ttl=60)
        now = time.time()
        monkeypatch.setattr("media.signing.time.time", lambda: now + 59)
        body_of(client.get(url))
        monkeypatch.setattr("media.signing.time.time", lambda: now + 61)
        assert client.get(url).status_code == 403

    def test_one_purpose_is_not_another(self, asset, client):
        upload = signing.sign_path("upload", asset.key, f"/assets/{asset.key}", 60)
        assert client.get(local(upload.url)).status_code == 403

    def test_a_download_says_so_in_the_signature(self, asset, client):
        url = url_of(asset, download=True)
        assert client.get(url.replace("&download=1", "")).status_code == 403

    def test_missing_bytes_are_404(self, asset, client, storage_folder):
        (storage_folder / asset.key).unlink()
        assert client.get(url_of(asset)).status_code == 404

    def test_no_credential_is_asked_for_and_none_counts(self, asset, stranger):
        body_of(stranger.get(url_of(asset)))


class TestRange:
    @pytest.mark.parametrize(
        ("header", "status", "first", "end"),
        [
            ("bytes=0-0", 206, 0, 1),
            ("bytes=10-19", 206, 10, 20),
            ("bytes=1000-", 206, 1000, 1024),
            ("bytes=1000-9999", 206, 1000, 1024),
            ("bytes=-24", 206, 1000, 1024),
            ("bytes=-9999", 206, 0, 1024),
            ("bytes=0-", 206, 0, 1024),
            ("bytes=5-4", 200, 0, 1024),
            ("bytes=-", 200, 0, 1024),
            ("bytes=0-1,5-6", 200, 0, 1024),
            ("bytes=a-b", 200, 0, 1024),
            ("bytes= 0-1", 200, 0, 1024),
            ("items=0-1", 200, 0, 1024),
            ("bytes=" + "9" * 30 + "-", 200, 0, 1024),
        ],
    )
    def test_one_range(self, asset, client, header, status, first, end):
        answer = client.get(url_of(asset), headers={"Range": header})
        assert answer.status_code == status
        assert answer.headers["Content-Length"] == str(end - first)
        expected = f"bytes {first}-{end - 1}/1024" if status == 206 else None
        assert answer.headers.get("Content-Range") == expected
        assert body_of(answer) == DATA[first:end]

    @pytest.mark.parametrize("header", ["bytes=1024-", "bytes=2000-3000", "bytes=-0"])
    def test_outside(self, asset, client, header):
        answer = client.get(url_of(asset), headers={"Range": header})
        assert (answer.status_code, answer.content) == (416, b"")
        assert answer.headers["Content-Range"] == "bytes */1024"

    def test_if_range_of_another_version_asks_for_all(self, asset, client):
        tag = f'"{asset.sha256}"'
        for given, status in ((tag, 206), ('"other"', 200), (f"W/{tag}", 200)):
            answer = client.get(url_of(asset), headers={"Range": "bytes=0-3", "If-Range": given})
            assert answer.status_code == status
            body_of(answer)

    def test_validators(self, asset, client):
        tag = f'"{asset.sha256}"'
        for given in (tag, f'"x", {tag}', "*"):
            answer = client.get(url_of(asset), headers={"If-None-Match": given})
            assert (answer.status_code, answer.headers["ETag"]) == (304, tag)
        body_of(client.get(url_of(asset), headers={"If-None-Match": '"x"'}))

    def test_head_says_everything_and_sends_nothing(self, asset, client):
        answer = client.head(url_of(asset))
        assert answer.status_code == 200
        assert answer.headers["Content-Length"] == "1024"
        assert answer.headers["Accept-Ranges"] == "bytes"
        assert b"".join(answer.streaming_content) == b""
        answer.close()

    def test_an_empty_file(self, alice, client):
        empty = services.store(alice.account_id, b"", origin="upload")
        answer = client.get(url_of(empty))
        assert (answer.status_code, body_of(answer)) == (200, b"")
        assert client.get(url_of(empty), headers={"Range": "bytes=0-"}).status_code == 416

    def test_media_is_never_compressed(self, alice, client):
        text = services.store(alice.account_id, b"long " * 1000, origin="upload")
        answer = client.get(url_of(text), headers={"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in answer.headers
        assert body_of(answer) == b"long " * 1000


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
HTML = b"<!DOCTYPE html><script>alert(1)</script>"
JS = b"alert(document.domain)//"
PDF = b"%PDF-1.4\n1 0 obj<</OpenAction<</S/JavaScript/JS(app.alert(1))>>>>"
INLINE = {
    "image/png", "image/jpeg", "image/webp", "image/gif", "video/mp4", "video/webm", "audio/mpeg",
    "audio/wav", "text/plain; charset=utf-8",
}  # fmt: skip
SHOWN = {
    "picture.png": picture(),
    "picture.jpg": picture(form="JPEG"),
    "picture.webp": picture(form="WEBP"),
    "picture.gif": picture(form="GIF"),
    "film.mp4": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2",
    "film.webm": b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm",
    "song.mp3": b"\xff\xfb\x90\x64" + b"\0" * 500,
    "song2.mp3": b"ID3\x04\0\0\0\0\0\0",
    "sound.wav": b"RIFF\x24\0\0\0WAVEfmt ",
    "words.txt": b"hello",
}
NOT_SHOWN = {
    "plain.svg": SVG,
    "picture.png": SVG,
    "declared.svg": b"<?xml version='1.0'?>\n<!-- c -->" + SVG,
    "doctype.svg": b"<!DOCTYPE svg PUBLIC '-//W3C//DTD SVG 1.1//EN'>" + SVG,
    "bom.svg": b"\xef\xbb\xbf" + SVG,
    "space.svg": b"\n\t  " + SVG,
    "upper.svg": SVG.replace(b"svg", b"SVG"),
    "page.html": HTML,
    "picture.gif": HTML,
    "page.txt": b"   \n" + HTML.lower(),
    "comment.txt": b"<!-- GIF89a --><script>alert(1)</script>",
    "script.txt": b"<script>alert(1)</script>",
    "frame.txt": b"<IFRAME src=javascript:alert(1)>",
    "img.txt": b"<img src=x onerror=alert(1)>",
    "body.txt": b"<body onload=alert(1)>",
    "xhtml.xml": b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'/>",
    "feed.xml": b"<?xml version='1.0'?><?xml-stylesheet href='x'?><a/>",
    "doc.pdf": PDF,
    "data.json": b'{"a": "<script>"}',
    "page.mht": b"\x00From: <Saved by Blink>\n" + HTML,
    "utf16.html": HTML.decode().encode("utf-16"),
    "utf7.html": b"+ADw-script+AD4-\x00",
    "nul.html": b"\x00" + HTML,
    "flash.swf": b"FWS\x09" + b"\0" * 20,
    "archive.zip": b"PK\x03\x04" + HTML,
    "app.jar": b"PK\x03\x04" + b"\0" * 30 + b"META-INF/",
    "program.exe": b"MZ" + b"\0" * 60,
    "program.elf": b"\x7fELF" + b"\0" * 60,
    "shell.sh": b"\x00#!/bin/sh\n",
    "page.bin": b"\x80\x81" + HTML,
    "tiff.tif": b"II*\x00" + b"\0" * 20,
    "icon.ico": b"\x00\x00\x01\x00\x01\x00",
    "heic.heic": b"\x00\x00\x00\x18ftypheic\0\0\0\0",
    "avif.avif": b"\x00\x00\x00\x18ftypavif\0\0\0\0",
    "wasm.wasm": b"\x00asm\x01\0\0\0",
    "empty": b"",
}
# Real pictures that are something else as well: shown as what they are, and sandboxed.
POLYGLOTS = {
    "gifar.html": picture(form="GIF") + b"PK\x03\x04" + HTML,
    "png.html": picture() + HTML,
    "jpeg.svg": picture(form="JPEG", comment=SVG),
    "webp.html": picture(form="WEBP") + HTML,
    "mp4.html": b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00" + HTML,
    "wav.html": b"RIFF\x24\0\0\0WAVE" + HTML,
    "mp3.html": b"ID3\x04\0\0\0\0\0\0" + HTML,
    "words.js": JS,
}


def served(alice, client: Client, data: bytes, name: str, content_type: str):
    """What a browser gets for `data` that claims to be `name` and `content_type`."""
    asset = services.store(
        alice.account_id, data, origin="upload", filename=name, content_type=content_type
    )
    answer = client.get(url_of(asset))
    body_of(answer)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "sandbox; default-src 'none'"
    return answer.headers["Content-Type"], answer.headers["Content-Disposition"].split(";")[0]


def test_rasters_sound_video_and_text_are_shown(alice, client):
    found = {name: served(alice, client, SHOWN[name], "page.html", "text/html") for name in SHOWN}
    assert {kind for kind, _ in found.values()} == INLINE
    assert {name: mode for name, (_, mode) in found.items()} == dict.fromkeys(SHOWN, "inline")


@pytest.mark.parametrize("claim", ["image/png", "text/html", "text/plain", "image/svg+xml"])
def test_everything_else_is_an_attachment(alice, client, claim):
    found = {name: served(alice, client, data, name, claim) for name, data in NOT_SHOWN.items()}
    assert {name: mode for name, (_, mode) in found.items()} == dict.fromkeys(
        NOT_SHOWN, "attachment"
    )
    assert not INLINE & {kind for kind, _ in found.values()}


def test_polyglots_are_what_their_first_bytes_say(alice, client):
    found = {
        name: served(alice, client, data, name, "text/html") for name, data in POLYGLOTS.items()
    }
    assert {kind for kind, _ in found.values()} < INLINE
    assert {name: mode for name, (_, mode) in found.items()} == dict.fromkeys(POLYGLOTS, "inline")


def test_a_script_that_begins_like_a_gif_is_refused(alice):
    with pytest.raises(MediaRejected):
        services.store(alice.account_id, b"GIF89a=1;" + JS, origin="upload")


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ('a"b;c\\d.png', "d.png"),
        ("naïve ☂.png", "na%C3%AFve%20%E2%98%82.png"),
        ("a\r\nSet-Cookie: x=1", "aSet-Cookie%3A%20x%3D1"),
        ("../../etc/passwd", "passwd"),
        ("'; filename=evil", "%27%3B%20filename%3Devil"),
        ("\u202egnp.exe", "gnp.exe"),
    ],
)
def test_a_name_cannot_break_out_of_its_header(alice, client, name, sent):
    asset = services.store(alice.account_id, DATA, origin="upload", filename=name)
    answer = client.get(url_of(asset))
    body_of(answer)
    assert answer.headers["Content-Disposition"] == f"attachment; filename*=UTF-8''{sent}"
