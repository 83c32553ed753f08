"""WebM by its structure: what the sandbox writes, what browsers record, and what is broken."""

import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def recorded(length: bytes | None) -> bytes:
    """As a browser streams it: nobody knows yet how long it will be, and the sound comes first."""
    sound = element(0xAE, element(0x86, b"A_OPUS"), number(0xD7, 1))
    picture = element(
        0xAE, element(0x86, b"V_VP8"), element(0xE0, number(0xB0, 20), number(0xBA, 10))
    )
    cluster = element(
        0x1F43B675, number(0xE7, 0), element(0xA3, b"\x81\0\0\x80sound"), length=length
    )
    parts = [element(0xEC, b"void"), element(0x1654AE6B, sound, picture), cluster]
    return element(0x1A45DFA3, b"head") + element(0x18538067, *parts, length=length)


def test_a_film_of_the_sandbox_says_how_large_and_how_long_it_is() -> None:
    assert matroska.size(io.BytesIO(FILM)) == Size(64, 32, seconds=1.5)
    found = measure.measure(io.BytesIO(FILM), "video/webm")
    assert (found.width, found.height, found.duration_seconds) == (64, 32, 1.5)


@pytest.mark.parametrize("length", [UNKNOWN, None])
def test_a_recording_says_how_large_it_is_and_not_how_long(length: bytes | None) -> None:
    assert matroska.size(io.BytesIO(recorded(length))) == Size(20, 10, seconds=None)


LIES = {
    "cut": FILM[:20],
    "larger than its parent": element(0x18538067, element(0xEC, b"", length=b"\x8f")),
    "no number": element(0x18538067, b"\0" * 20),
}


@pytest.mark.parametrize("film", LIES.values(), ids=LIES)
def test_lies_are_refused(film: bytes) -> None:
    with pytest.raises(ValueError, match=r"cut|parent|long"):
        matroska.size(io.BytesIO(film))


@given(st.data())
def test_damage_is_a_value_error_or_another_size(draw: st.DataObject) -> None:
    damaged = bytearray(FILM[:400])
    for _ in range(draw.draw(st.integers(1, 4))):
        damaged[draw.draw(st.integers(0, len(damaged) - 1))] = draw.draw(st.integers(0, 255))
    del damaged[draw.draw(st.integers(0, len(damaged))) :]
    with suppress(ValueError):
        matroska.size(io.BytesIO(bytes(damaged)))
