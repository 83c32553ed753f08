"""Files and vectors the sandbox makes: real ones, of equal bytes for equal input, marked as the sandbox's.

Pillow is imported when the first picture is drawn, so that processes which only look the sandbox up stay small.
"""

import hashlib
import io
import math
import random
import struct
import textwrap
import wave
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]
RATE = 16_000  # audio samples a second
LOOP = 10  # different frames of a video; they repeat
CLUSTER = 5_000  # milliseconds of video in one Matroska cluster
NOTES = (262, 294, 330, 392, 440, 523)  # Hz: a pentatonic scale never sounds wrong


def digest_of(*parts: object) -> bytes:
    """What decides colours, tones and vectors."""
    return hashlib.sha256(repr(parts).encode()).digest()


def png(lines: Sequence[str], size: Size, digest: bytes) -> bytes:
    """A picture that shows `lines`."""
    from PIL.PngImagePlugin import PngInfo

    marks = PngInfo()
    marks.add_text("Software", "GenPulse sandbox")
    file = io.BytesIO()
    _picture(lines, size, digest).save(file, "PNG", pnginfo=marks, compress_level=6)
    return file.getvalue()


def _picture(lines: Sequence[str], size: Size, digest: bytes, shift: float = 0) -> "Image":
    """`shift` 0..1 moves the shapes around: frames of a video differ by it alone."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = size
    chance = random.Random(digest)  # noqa: S311 - repeatable on purpose
    image = Image.new("RGB", size, tuple(chance.randrange(20, 90) for _ in range(3)))
    draw = ImageDraw.Draw(image)
    for _ in range(4):
        reach = chance.uniform(0.1, 0.35) * min(size)
        x = (chance.random() + shift) % 1 * width
        y = chance.random() * height
        colour = tuple(chance.randrange(90, 170) for _ in range(3))
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
    points = max(10, min(size) // 20)
    font = ImageFont.load_default(size=points)
    columns = max(8, int(width / points * 1.7))
    shown = [part for line in lines for part in textwrap.wrap(line[:600], columns) or [""]]
    draw.multiline_text((points, points), "\n".join(shown), fill=(255, 255, 255), font=font)
    return image


def webm(lines: Sequence[str], size: Size, digest: bytes, *, seconds: float, fps: int) -> bytes:
    """A film of shapes that wander. WebM: the frames of VP8 video are those of WebP pictures."""
    frames = [_vp8(_picture(lines, size, digest, shift / LOOP)) for shift in range(LOOP)]
    count = max(1, round(seconds * fps))
    times = [round(number * 1000 / fps) for number in range(count)]
    blocks = ((at, frames[number % LOOP]) for number, at in enumerate(times))
    return b"".join(_matroska(blocks, size, count * 1000 / fps))


def _vp8(image: "Image") -> bytes:
    file = io.BytesIO()
    image.save(file, "WEBP", quality=60, method=0)
    riff = file.getvalue()
    at = riff.index(b"VP8 ")
    return riff[at + 8 : at + 8 + struct.unpack_from("<I", riff, at + 4)[0]]


def _element(identity: int, *content: bytes) -> bytes:
    """One EBML element (RFC 8794) with an eight-byte length."""
    body = b"".join(content)
    name = identity.to_bytes((identity.bit_length() + 7) // 8, "big")
    return name + (len(body) | 1 << 56).to_bytes(8, "big") + body


def _number(identity: int, value: int) -> bytes:
    return _element(identity, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def _matroska(blocks: Iterator[tuple[int, bytes]], size: Size, duration: float) -> Iterator[bytes]:
    """EBML header and segment (RFC 9559); every frame is a key frame."""
    yield _element(
        0x1A45DFA3,
        _number(0x4286, 1),
        _number(0x42F7, 1),
        _number(0x42F2, 4),
        _number(0x42F3, 8),
        _element(0x4282, b"webm"),
        _number(0x4287, 2),
        _number(0x4285, 2),
    )
    maker = b"GenPulse sandbox"
    info = _element(
        0x1549A966,
        _number(0x2AD7B1, 1_000_000),
        _element(0x4D80, maker),
        _element(0x5741, maker),
        _element(0x4489, struct.pack(">d", duration)),
    )
    video = _element(0xE0, _number(0xB0, size[0]), _number(0xBA, size[1]))
    numbers = (_number(0xD7, 1), _number(0x73C5, 1), _number(0x9C, 0), _number(0x83, 1))
    track = _element(0xAE, *numbers, _element(0x86, b"V_VP8"), video)
    yield _element(0x18538067, info, _element(0x1654AE6B, track), *_clusters(blocks))


def _clusters(blocks: Iterator[tuple[int, bytes]]) -> Iterator[bytes]:
    start, waiting = 0, list[bytes]()
    for at, frame in blocks:
        if at - start >= CLUSTER:
            yield _element(0x1F43B675, _number(0xE7, start), *waiting)
            start, waiting = at, []
        waiting.append(_element(0xA3, b"\x81" + struct.pack(">hB", at - start, 0x80), frame))
    yield _element(0x1F43B675, _number(0xE7, start), *waiting)


def wav(digest: bytes, *, seconds: float) -> bytes:
    """A little tune, 16 kHz mono."""
    chance = random.Random(digest)  # noqa: S311 - repeatable on purpose
    count = max(1, round(seconds * RATE))
    samples = array("h")
    while len(samples) < count:
        period = RATE // chance.choice(NOTES)
        cycle = [int(9000 * math.sin(2 * math.pi * step / period)) for step in range(period)]
        samples.extend(cycle * (RATE // 4 // period))
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE)
        out.writeframes(samples[:count].tobytes())
    return file.getvalue()


def seconds_of(audio: bytes) -> float:
    """How long a sound lasts; guessed from its size when its format is not understood."""
    try:
        with wave.open(io.BytesIO(audio)) as sound:
            length: float = sound.getnframes() / sound.getframerate()
            return round(length, 2)
    except (wave.Error, EOFError, ZeroDivisionError):
        return _other_seconds(audio)


def _other_seconds(audio: bytes) -> float:
    import mutagen

    try:
        found = mutagen.File(io.BytesIO(audio))
    except mutagen.MutagenError:
        found = None
    length = getattr(getattr(found, "info", None), "length", None) or len(audio) / RATE
    return round(float(length), 2)


def vector(text: str, dimensions: int) -> list[float]:
    """A direction in space that depends on the text alone, of length 1."""
    chance = random.Random(digest_of(text))  # noqa: S311 - repeatable on purpose
    values = [chance.gauss(0, 1) for _ in range(dimensions)]
    length = math.hypot(*values)
    return [value / length for value in values]
