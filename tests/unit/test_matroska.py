"""WebM by its structure: what the sandbox writes, what browsers record, and what is broken."""

import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from media import matroska, measure
from media.headers import Size
from providers.sandbox.media import webm

FILM = webm(["a kite"], (64, 32), b"digest", seconds=1.5, fps=4)
UNKNOWN = b"\x01" + b"\xff" * 7


def element(identity: int, *content: bytes, length: bytes | None = None) -> bytes:
    body = b"".join(content)
    name = identity.to_bytes((identity.bit_length() + 7) // 8, "big")
    return name + (length or (len(body) | 1 << 28).to_bytes(4, "big")) + body


def number(identity: int, value: int) -> bytes:
    return element(identity, value.to_bytes(2, "big"))


def frame() -> bytes:
    """A key frame of VP8."""
    file = io.BytesIO()
    Image.new("RGB", (20, 10), "crimson").save(file, "WEBP")
    riff = file.getvalue()
    return riff[20 : 20 + struct.unpack_from("<I", riff, 16)[0]]


def track(name: int, codec: bytes, *more: bytes) -> bytes:
    return element(0xAE, element(0x86, codec), number(0xD7, name), *more)


def recorded(
    *blocks: bytes, tracks: bytes = track(2, b"V_VP8"), length: bytes | None = UNKNOWN
) -> bytes:
    """As a browser streams it: nobody knows yet how long it will be, and the sound comes first."""
    sound = track(1, b"A_OPUS")
    cluster = element(0x1F43B675, number(0xE7, 0), *blocks, length=length)
    parts = [element(0xEC, b"void"), element(0x1654AE6B, sound, tracks), cluster]
    return element(0x1A45DFA3, b"head") + element(0x18538067, *parts, length=length)


def block(name: int, data: bytes, flags: int = 0x80) -> bytes:
    return bytes([0x80 | name]) + b"\0\0" + bytes([flags]) + data


def opened(picture: bytes | None) -> "Image.Image":
    assert picture is not None
    return Image.open(io.BytesIO(picture))


def test_a_film_of_the_sandbox_says_how_large_and_how_long_it_is() -> None:
    assert matroska.size(io.BytesIO(FILM)) == Size(64, 32, seconds=1.5)
    found = measure.measure(io.BytesIO(FILM), "video/webm")
    assert (found.width, found.height, found.duration_seconds) == (64, 32, 1.5)
    picture = opened(matroska.first_picture(io.BytesIO(FILM)))
    assert (picture.format, picture.size) == ("WEBP", (64, 32))


@pytest.mark.parametrize("length", [UNKNOWN, None])
@pytest.mark.parametrize("group", [False, True])
def test_a_recording_has_its_first_picture_behind_the_sound(
    length: bytes | None, group: bool
) -> None:
    picture = block(2, frame())
    wrapped = element(0xA0, element(0xA1, picture)) if group else element(0xA3, picture)
    film = recorded(element(0xA3, block(1, b"sound")), wrapped, length=length)
    found = opened(matroska.first_picture(io.BytesIO(film)))
    found.load()
    assert found.size == (20, 10)
    assert matroska.size(io.BytesIO(film)).seconds is None


NONE = {
    "another codec": recorded(element(0xA3, block(2, frame())), tracks=track(2, b"V_AV1")),
    "no key frame": recorded(element(0xA3, block(2, b"\x01" + frame()[1:]))),
    "sound only": recorded(element(0xA3, block(1, b"sound"))),
    "nothing": b"",
}


@pytest.mark.parametrize("film", NONE.values(), ids=NONE)
def test_films_without_one(film: bytes) -> None:
    assert matroska.first_picture(io.BytesIO(film)) is None


LIES = {
    "laced": recorded(element(0xA3, block(2, frame(), flags=0x82))),
    "cut": FILM[: len(FILM) // 20],
    "larger than its parent": element(0x18538067, element(0xEC, b"", length=b"\x8f")),
    "no number": element(0x18538067, b"\0" * 20),
}


@pytest.mark.parametrize("film", LIES.values(), ids=LIES)
def test_lies_are_refused(film: bytes) -> None:
    with pytest.raises(ValueError, match=r"laced|cut|parent|long"):
        matroska.first_picture(io.BytesIO(film))


@given(st.data())
def test_damage_is_a_value_error_or_another_picture(draw: st.DataObject) -> None:
    damaged = bytearray(FILM[:400])
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    del damaged[draw.draw(st.integers(0, len(damaged))) :]
    for reader in (matroska.size, matroska.first_picture):
        try:
            reader(io.BytesIO(bytes(damaged)))
        except ValueError:
            continue
