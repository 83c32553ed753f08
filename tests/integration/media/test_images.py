"""Thumbnails are made in a process that may burn; nothing else ever decodes."""

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import av
import psutil
import pytest
from PIL import Image

from media import images, services
from media.models import Asset
from providers.sandbox.media import webm
from tests.integration.media.conftest import body_of, local, picture
from tests.integration.stack import eventually
from tests.unit.test_media_headers import chunk, frames, gif, png
from tests.unit.test_media_headers import film as film_of_mp4

REPOSITORY = Path(images.__file__).parent.parent


def thumbnail(data: bytes, content_type: str, tmp_path: Path) -> bytes | None:
    path = tmp_path / "picture"
    path.write_bytes(data)
    with path.open("rb") as file:
        return images.thumbnail(file, content_type)


def decoders(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children() if "decoder.py" in " ".join(child.cmdline())]


def opened(data: bytes | None) -> Image.Image:
    assert data is not None
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_at_most_512_pixels_of_webp(tmp_path, form):
    small = opened(thumbnail(picture(2000, 1000, form), f"image/{form.lower()}", tmp_path))
    assert (small.format, small.size) == ("WEBP", (512, 256))


def test_transparency_stays_and_orientation_is_applied(tmp_path):
    clear = io.BytesIO()
    Image.new("RGBA", (10, 10), (0, 0, 0, 0)).save(clear, "PNG")
    assert opened(thumbnail(clear.getvalue(), "image/png", tmp_path)).mode == "RGBA"
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "where I live"
    turned = opened(thumbnail(picture(100, 50, "JPEG", exif=exif), "image/jpeg", tmp_path))
    assert turned.size == (50, 100)
    assert "exif" not in turned.info


FILMS = {
    "H.264": ("libx264", "mp4", "video/mp4"),
    "MPEG-4": ("mpeg4", "mov", "video/quicktime"),
    "VP8": ("libvpx", "webm", "video/webm"),
    "VP9": ("libvpx-vp9", "webm", "video/webm"),
    "AV1": ("libsvtav1", "mp4", "video/mp4"),
    "H.264 in Matroska": ("libx264", "matroska", "video/x-matroska"),
}


def film(codec: str, form: str, size: tuple[int, int] = (640, 320)) -> bytes:
    """Two frames: a red one that is green on its right, then a blue one."""
    first = Image.new("RGB", size, "red")
    first.paste((0, 255, 0), (size[0] * 4 // 5, 0, *size))
    file = io.BytesIO()
    with av.open(file, "w", format=form) as made:
        track: Any = made.add_stream(codec, rate=2)
        track.width, track.height = size
        track.pix_fmt = "yuv420p"
        for frame in (first, Image.new("RGB", size, "blue")):
            made.mux(track.encode(av.VideoFrame.from_image(frame)))
        made.mux(track.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("kind", FILMS)
def test_the_first_frame_of_a_film(tmp_path, kind):
    codec, form, content_type = FILMS[kind]
    small = opened(thumbnail(film(codec, form), content_type, tmp_path)).convert("RGB")
    assert small.size == (512, 256)
    assert [color(small, (256, 128)), color(small, (500, 128))] == ["red", "green"]


def color(shown: Image.Image, at: tuple[int, int]) -> str:
    amounts = cast("tuple[int, ...]", shown.getpixel(at))
    assert max(amounts) > 200, amounts
    assert sorted(amounts)[1] < 60, amounts
    return ("red", "green", "blue")[amounts.index(max(amounts))]


def test_a_film_that_lies_on_its_side_is_turned(tmp_path):
    """The matrix of its track, as phones write it: a quarter to the right."""
    lying = film("libx264", "mp4")
    plain = struct.pack(">9I", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    turned = struct.pack(">9I", 0, 1 << 16, 0, 2**32 - (1 << 16), 0, 0, 0, 0, 1 << 30)
    at = lying.index(plain, lying.index(b"tkhd"))
    standing = lying[:at] + turned + lying[at + len(plain) :]
    small = opened(thumbnail(standing, "video/mp4", tmp_path)).convert("RGB")
    assert small.size == (256, 512)
    assert [color(small, (128, 100)), color(small, (128, 500))] == ["red", "green"]


def test_a_list_of_files_in_the_clothes_of_a_film_is_none(tmp_path):
    (tmp_path / "other.mp4").write_bytes(film("libx264", "mp4"))
    for text in ("#EXTM3U\n#EXTINF:1,\nother.mp4\n", "ffconcat version 1.0\nfile other.mp4\n"):
        assert thumbnail(text.encode(), "video/mp4", tmp_path) is None


BROKEN = {
    "film": (film("libx264", "mp4")[:-200], "video/mp4"),
    "film without picture": (film_of_mp4(), "video/mp4"),
    "data": (png(4000, 4000), "image/png"),
    "text": (png(9, 9, chunk(b"zTXt", b"a\0\0" + b"\x78\x9c" + b"\xff" * 99)), "image/png"),
    "gif": (gif(500, 500)[:20], "image/gif"),
    "jpeg": (picture(form="JPEG")[:100], "image/jpeg"),
    "webp": (picture(form="WEBP")[:60], "image/webp"),
    "other": (picture(form="GIF"), "image/png"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "image/png"),
    "bomb": (png(30_000, 30_000), "image/png"),
    "empty": (b"", "image/gif"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_decoded_has_none(tmp_path, name):
    assert thumbnail(*BROKEN[name], tmp_path) is None


def test_a_film_of_too_many_pixels_has_none(tmp_path):
    assert thumbnail(film("mpeg4", "mp4", (8000, 6000)), "video/mp4", tmp_path) is None


def test_the_largest_allowed_picture_leaves_this_process_small(tmp_path):
    data = picture(8000, 5000, mode="L", compress_level=1)
    before = psutil.Process().memory_info().rss
    assert opened(thumbnail(data, "image/png", tmp_path)).size == (512, 320)
    assert psutil.Process().memory_info().rss - before < 20 << 20


def test_a_decoder_that_takes_too_long_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "SECONDS", 0.001)
    assert thumbnail(picture(), "image/png", tmp_path) is None


def test_a_decoder_that_died_is_replaced(tmp_path):
    assert thumbnail(picture(), "image/png", tmp_path)
    [decoder] = decoders(psutil.Process())
    decoder.kill()
    decoder.wait(5)
    assert thumbnail(picture(), "image/png", tmp_path)
    assert len(decoders(psutil.Process())) == 1


def test_the_decoder_ends_with_who_started_it(tmp_path):
    path = tmp_path / "picture"
    path.write_bytes(picture())
    code = (
        "import os, sys; from media import images; images.thumbnail(open(sys.argv[1], 'rb'), 'image/png');"
        "print(images.decoder()._process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, capture_output=True, check=False, text=True, cwd=REPOSITORY)
    eventually(lambda: not psutil.pid_exists(int(done.stdout)))


@pytest.mark.parametrize(
    ("deed", "refusal"),
    [
        ("bytearray(2 << 30)", "MemoryError"),
        ("open(sys.argv[1], 'wb', 0).write(b'x')", "File too large"),
    ],
)
def test_the_decoder_is_confined(tmp_path, deed, refusal):
    folder = str(REPOSITORY / "media")
    code = f"import sys; sys.path.insert(0, {folder!r}); import decoder; decoder.confine(); {deed}"
    command = [sys.executable, "-I", "-c", code, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    assert refusal in done.stderr


@pytest.mark.django_db
class TestStored:
    def test_a_thumbnail_is_made_once_and_served(self, alice, api, client, storage_folder):
        asset = services.store(alice.account_id, picture(800, 600), origin="result")
        assert services.make_missing_thumbnails() == 1
        assert services.make_missing_thumbnails() == 0
        shown = api.get(f"/api/v1/assets/{asset.id}").json()
        answer = client.get(local(shown["thumbnail_url"]))
        assert answer.headers["Content-Type"] == "image/webp"
        assert opened(body_of(answer)).size == (512, 384)
        services.purge([asset])
        services.sweep()
        assert not [path for path in storage_folder.rglob("*") if path.is_file()]

    def test_what_cannot_have_one_is_not_tried_again(self, alice):
        broken = services.store(alice.account_id, png(50, 50), origin="upload")
        words = services.store(alice.account_id, b"hello", origin="upload")
        broken_film = services.store(alice.account_id, film_of_mp4(), origin="upload")
        assert services.make_missing_thumbnails() == 0
        assert Asset.objects.get(id=broken_film.id).thumbnail_key == ""
        assert Asset.objects.get(id=broken.id).thumbnail_key == ""
        assert Asset.objects.get(id=words.id).thumbnail_key is None

    def test_a_film_has_its_first_picture(self, alice, api, client):
        kite = webm(["a kite"], (640, 320), b"digest", seconds=1, fps=2)
        asset = services.store(alice.account_id, kite, origin="upload")
        assert services.make_missing_thumbnails() == 1
        shown = api.get(f"/api/v1/assets/{asset.id}").json()
        assert [shown["width"], shown["height"], shown["duration_seconds"]] == [640, 320, 1]
        answer = client.get(local(shown["thumbnail_url"]))
        assert answer.headers["Content-Type"] == "image/webp"
        assert opened(body_of(answer)).size == (512, 256)

    def test_a_result_that_is_given_up_leaves_no_thumbnail(self, alice, storage_folder):
        kite = io.BytesIO(webm(["a kite"], (64, 32), b"digest", seconds=1, fps=2))
        asset = services.prepare(alice.account_id, kite, origin="result")
        services.add_thumbnail(asset, kite)
        assert len([path for path in storage_folder.rglob("*") if path.is_file()]) == 2
        services.discard([asset])
        assert not [path for path in storage_folder.rglob("*") if path.is_file()]

    def test_an_image_gone_in_between_is_left_alone(self, alice, storage_folder):
        asset = services.store(alice.account_id, picture(), origin="upload")
        (storage_folder / asset.key).unlink()
        assert services.make_missing_thumbnails() == 0


def test_no_decoder_is_loaded_by_what_every_process_imports():
    code = (
        "import django; django.setup(); import media.api, media.upload_api, sys;"
        "from media.storages import storage; storage().exists('x');"
        "print([m for m in ('PIL', 'av', 'mutagen', 'puremagic', 'boto3', 'oss2', 'storages') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, text=True, cwd=REPOSITORY
    )
    assert done.stdout.strip() == "[]"


def test_animations_show_their_first_frame(tmp_path):
    assert opened(thumbnail(frames("GIF", 3, (20, 10)), "image/gif", tmp_path)).size == (20, 10)
