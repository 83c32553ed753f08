"""What files are and how large their pictures are, from a few bytes of each."""

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from genpulse.errors import MediaRejected
from media import headers, measure, sniff
from media.headers import Size
from providers.sandbox.media import webm


def frames(form: str, count: int, size: tuple[int, int] = (8, 6)) -> bytes:
    pictures = [Image.new("RGB", size, (n * 83 % 256, n * 29 % 256, 7)) for n in range(count)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, form, save_all=True, append_images=pictures[1:])
    return buffer.getvalue()


def saved(form: str, **options) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (300, 200), (1, 2, 3)).save(buffer, form, **options)
    return buffer.getvalue()


def box(name: bytes, *content: bytes) -> bytes:
    data = b"".join(content)
    return struct.pack(">I4s", 8 + len(data), name) + data


def film(version: int = 0) -> bytes:
    """An mp4 of 2.5 seconds, 640 x 360, with a sound track before the picture."""
    wide = version == 1
    times = struct.pack(">QQ" if wide else ">II", 0, 0)
    mvhd = box(
        b"mvhd",
        bytes([version, 0, 0, 0]),
        times,
        struct.pack(">IQ" if wide else ">II", 1000, 2500),
        b"\0" * 80,
    )

    def trak(width: int, height: int) -> bytes:
        middle = b"\0" * (84 if wide else 72)
        return box(
            b"trak",
            box(b"edts"),
            box(
                b"tkhd",
                bytes([version, 0, 0, 7]),
                middle,
                struct.pack(">II", width << 16, height << 16),
            ),
        )

    moov = box(b"moov", mvhd, trak(0, 0), trak(640, 360))
    return box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"mdat", b"\0" * 99) + moov


@pytest.mark.parametrize(
    ("data", "content_type", "size"),
    [
        (saved("PNG"), "image/png", Size(300, 200)),
        (saved("JPEG"), "image/jpeg", Size(300, 200)),
        (
            saved("JPEG", progressive=True, exif=b"Exif\0\0" + b"\0" * 2000),
            "image/jpeg",
            Size(300, 200),
        ),
        (saved("GIF"), "image/gif", Size(300, 200)),
        (saved("WEBP"), "image/webp", Size(300, 200)),
        (saved("WEBP", lossless=True), "image/webp", Size(300, 200)),
        (saved("WEBP", exif=b"Exif\0\0" + b"\0" * 20), "image/webp", Size(300, 200)),
        (frames("PNG", 3), "image/png", Size(8, 6, 3)),
        (frames("GIF", 5), "image/gif", Size(8, 6, 5)),
        (frames("WEBP", 4), "image/webp", Size(8, 6, 4)),
        (film(), "video/mp4", Size(640, 360, seconds=2.5)),
        (film(1), "video/mp4", Size(640, 360, seconds=2.5)),
    ],
)
def test_readers_agree_with_the_writers(data, content_type, size):
    assert sniff.sniff(data[: sniff.HEAD]) == content_type
    assert headers.READERS[content_type](io.BytesIO(data)) == size


@given(
    st.sampled_from([saved("PNG"), saved("JPEG"), frames("GIF", 3), frames("WEBP", 3), film()]),
    st.data(),
)
def test_damage_is_a_value_error_or_another_size(data, draw):
    damaged = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    del damaged[draw.draw(st.integers(0, len(damaged))) :]
    for reader in headers.READERS.values():
        try:
            reader(io.BytesIO(bytes(damaged)))
        except ValueError:
            continue


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + b"".join(extra)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


def gif(width: int, height: int, frame: tuple[int, int, int, int] | None = None) -> bytes:
    part = (
        struct.pack("<BHHHHB", 0x2C, *(frame or (0, 0, width, height)), 0) + b"\x02\x02\x44\x01\x00"
    )
    return b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + part + b";"


def jpeg(width: int, height: int) -> bytes:
    return (
        b"\xff\xd8\xff\xc0\x00\x11\x08" + struct.pack(">HH", height, width) + b"\x03" + b"\0" * 20
    )


def vp8x(width: int, height: int) -> bytes:
    body = b"\0" * 4 + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\0\0\0\0WEBPVP8X" + struct.pack("<I", 10) + body


BOMBS = {
    "png.wide": png(2**31 - 1, 1),
    "png.square": png(100_000, 100_000),
    "png.just": png(8001, 5000),
    "png.zero": png(0, 10),
    "png.frames": png(10, 10, chunk(b"acTL", struct.pack(">II", 501, 0))),
    "png.frames4g": png(10, 10, chunk(b"acTL", struct.pack(">II", 2**32 - 1, 0))),
    "png.cut": png(10, 10)[:30],
    "png.only": b"\x89PNG\r\n\x1a\n",
    "png.chunks": b"\x89PNG\r\n\x1a\n" + chunk(b"teXt", b"") * (headers.CHUNKS + 1),
    "png.length": b"\x89PNG\r\n\x1a\n" + b"\xff\xff\xff\xffIHDR" + b"\0" * 40,
    "gif.screen": gif(65535, 65535),
    "gif.frame": gif(1, 1, (0, 0, 65535, 65535)),
    "gif.offset": gif(1, 1, (65535, 65535, 10, 10)),
    "gif.zero": gif(0, 0),
    "gif.frames": frames("GIF", 501),
    "gif.none": b"GIF89a\1\0\1\0\0\0\0;",
    "gif.blocks": b"GIF89a\1\0\1\0\0\0\0" + b"!\xfe\x00" * (headers.CHUNKS + 1),
    "gif.cut": gif(5, 5)[:16],
    "jpeg.square": jpeg(65535, 65535),
    "jpeg.zero": jpeg(0, 10),
    "jpeg.none": b"\xff\xd8\xff\xd9",
    "jpeg.fill": b"\xff\xd8" + b"\xff" * 300_000,
    "jpeg.markers": b"\xff\xd8" + b"\xff\xe0\x00\x02" * (headers.CHUNKS + 1),
    "jpeg.cut": b"\xff\xd8\xff\xc0\x00",
    "webp.canvas": vp8x(16_000_000, 16_000_000),
    "webp.just": vp8x(8001, 5000),
    "webp.none": b"RIFF\4\0\0\0WEBP",
    "webp.cut": b"RIFF\4\0\0\0WEBPVP8 \4\0\0\0ab",
    "webp.frames": vp8x(10, 10) + (b"ANMF" + struct.pack("<I", 0)) * 501,
    "webp.chunks": b"RIFF\0\0\0\0WEBP" + (b"JUNK" + struct.pack("<I", 0)) * (headers.CHUNKS + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_by_their_headers(name):
    data = BOMBS[name]
    content_type = sniff.sniff(data[: sniff.HEAD])
    assert content_type in sniff.IMAGES
    with pytest.raises(MediaRejected):
        measure.measure(io.BytesIO(data), content_type)


@pytest.mark.parametrize(
    "data",
    [png(8000, 5000), frames("GIF", 500), gif(8000, 5000), jpeg(8000, 5000), vp8x(8000, 5000)],
)
def test_the_largest_allowed_pass(data):
    measures = measure.measure(io.BytesIO(data), sniff.sniff(data[: sniff.HEAD]))
    assert (measures.width, measures.height) in {(8000, 5000), (8, 6)}


class Counting(io.BytesIO):
    """Remembers how much was read at once and in all."""

    read_in_all = 0

    def read(self, count: int | None = -1) -> bytes:
        data = super().read(count)
        self.read_in_all += len(data)
        return data


def test_no_more_of_an_image_is_read_than_its_headers():
    data = png(100, 100, chunk(b"zTXt", b"x" * 5_000_000))
    file = Counting(data)
    measure.measure(file, "image/png")
    assert file.read_in_all < 1000


class TestSound:
    def wav(self, seconds: float) -> bytes:
        data = b"\0" * int(16000 * seconds)
        head = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
        body = head + b"data" + struct.pack("<I", len(data)) + data
        return b"RIFF" + struct.pack("<I", len(body)) + body

    def test_the_length_of_a_recording(self):
        data = self.wav(1.5)
        assert sniff.sniff(data[: sniff.HEAD]) == "audio/wav"
        assert measure.measure(io.BytesIO(data), "audio/wav").duration_seconds == 1.5

    def test_mp3(self):
        frame = b"\xff\xfb\x90\x64" + b"\0" * 413  # 128 kbit/s, 44.1 kHz: 1152 samples
        found = measure.measure(io.BytesIO(frame * 100), "audio/mpeg").duration_seconds
        assert found == pytest.approx(2.6, abs=0.1)

    @pytest.mark.parametrize("content_type", ["audio/mpeg", "audio/wav", "audio/flac", "audio/ogg"])
    def test_garbage_has_no_length(self, content_type):
        for data in (
            b"",
            b"fLaC\xff\xff\xff\xff",
            b"OggS" * 9,
            b"ID3\x04\0\0\x7f\x7f\x7f\x7f",
            b"RIFF\xff\xff\xff\xffWAVE",
        ):
            assert measure.measure(io.BytesIO(data), content_type).duration_seconds is None

    def test_a_tag_as_large_as_the_file_is_not_read_whole(self):
        size = 20 << 20
        length = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
        file = Counting(b"ID3\x04\0\0" + length + b"APIC" + length + b"\0\0" + b"\0" * size)
        measure.measure(file, "audio/mpeg")
        assert file.read_in_all <= measure.PROBE_BYTES


def test_a_film_that_lies_has_no_measures():
    lying = box(b"ftyp", b"isom\0\0\0\0") + struct.pack(">I4s", 2**31, b"moov") + b"\0" * 50
    assert measure.measure(io.BytesIO(lying), "video/mp4") == measure.Measures()


@pytest.mark.parametrize(
    ("head", "content_type"),
    [
        (b"plain words \xe2\x98\x82", "text/plain"),
        ("ä".encode() * 4096 + "ä".encode()[:1], "text/plain"),
        (b"caf\xe9 au lait", "application/octet-stream"),
        (b'{"a": 1}', "application/json"),
        (b'{"a": ', "text/plain"),
        (b"[" * 5000, "text/plain"),
        (b"\x00\x00\x00\x18ftypqt  ", "video/quicktime"),
        (b"\x00\x00\x00\x18ftypM4A ", "audio/mp4"),
        (b"\x1a\x45\xdf\xa3\x01matroska", "video/x-matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "application/octet-stream"),
        (b"\xff\xf1\x50\x80", "application/octet-stream"),
        (b"fLaC", "audio/flac"),
        (b"glTF\2\0\0\0", "model/gltf-binary"),
    ],
)
def test_sniffing(head, content_type):
    found = sniff.sniff(head)
    assert found == content_type or (content_type == sniff.UNKNOWN and found not in sniff.INLINE)


def test_a_film_of_the_sandbox_is_what_it_says():
    film = webm(["a kite"], (64, 32), b"digest", seconds=1, fps=8)
    assert sniff.sniff(film[: sniff.HEAD]) == "video/webm"


def test_the_declared_type_fills_in_only_where_bytes_say_nothing():
    assert sniff.settle(sniff.UNKNOWN, "audio/aac") == "audio/aac"
    assert sniff.settle(sniff.UNKNOWN, "image/png") == sniff.UNKNOWN
    assert sniff.settle(sniff.UNKNOWN, "text/html") == sniff.UNKNOWN
    assert sniff.settle(sniff.UNKNOWN, "nonsense") == sniff.UNKNOWN
    assert sniff.settle("image/png", "audio/aac") == "image/png"
