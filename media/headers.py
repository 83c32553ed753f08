"""Width, height and frames from the headers of png, jpeg, gif, webp and mp4, by seeking, not decoding.

No decoder sees a file before these numbers passed the guard, and no process needs Pillow for them.
Every reader raises ValueError for a file that is cut or lies about its structure.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

CHUNKS = 100_000  # more structure than that is an attack, not a picture


@dataclass(frozen=True, slots=True)
class Size:
    """Pixels; `seconds` only where the container says so."""

    width: int
    height: int
    frames: int = 1
    seconds: float | None = None


def read(file: BinaryIO, count: int) -> bytes:
    """Exactly `count` bytes. Raises ValueError at the end of the file."""
    data = file.read(count)
    if len(data) < count:
        raise ValueError("the file is cut")
    return data


def png(file: BinaryIO) -> Size:
    """https://www.w3.org/TR/png-3/: IHDR first, acTL before the data if animated."""
    read(file, 8)
    width = height = 0
    frames = 1
    for _ in range(CHUNKS):
        length, name = struct.unpack(">I4s", read(file, 8))
        if name == b"IHDR":
            width, height = struct.unpack(">II", read(file, 8))
            length -= 8
        elif name == b"acTL":
            frames = struct.unpack(">I", read(file, 4))[0]
            length -= 4
        elif name == b"IDAT":
            return Size(width, height, frames)
        file.seek(length + 4, 1)
    raise ValueError("too many chunks")


def jpeg(file: BinaryIO) -> Size:
    """ITU T.81: the first start-of-frame marker."""
    read(file, 2)
    for _ in range(CHUNKS):
        if read(file, 1) != b"\xff":
            continue
        marker = read(file, 1)[0]
        if marker in {0x00, 0x01, 0xFF} or 0xD0 <= marker <= 0xD8:
            file.seek(-1 if marker == 0xFF else 0, 1)
            continue
        if marker in {0xD9, 0xDA}:
            raise ValueError("no frame before the data")
        length = struct.unpack(">H", read(file, 2))[0]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">xHH", read(file, 5))
            return Size(width, height)
        file.seek(max(length - 2, 0), 1)
    raise ValueError("too many markers")


def gif(file: BinaryIO) -> Size:
    """GIF89a: counts image descriptors, and takes the largest of them and the screen."""
    read(file, 6)
    width, height, flags = struct.unpack("<HHBxx", read(file, 7))
    _skip_colours(file, flags)
    frames = 0
    for _ in range(CHUNKS):
        block = file.read(1)
        if block == b"!":
            read(file, 1)
        elif block == b",":
            left, top, wide, high, flags = struct.unpack("<HHHHB", read(file, 9))
            width, height = max(width, left + wide), max(height, top + high)
            frames += 1
            _skip_colours(file, flags)
            read(file, 1)
        elif frames:
            return Size(width, height, frames)  # the trailer, or what browsers take for it
        else:
            raise ValueError("no image")
        _skip_blocks(file)
    raise ValueError("too many blocks")


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        file.seek(3 << ((flags & 7) + 1), 1)


def _skip_blocks(file: BinaryIO) -> None:
    for _ in range(CHUNKS):
        length = file.read(1)
        if not length or length == b"\0":
            return
        file.seek(length[0], 1)
    raise ValueError("too many blocks")


def webp(file: BinaryIO) -> Size:
    """RFC 9649: VP8X tells the canvas and ANMF chunks are counted; else the one image chunk tells."""
    read(file, 12)
    canvas: Size | None = None
    frames = 0
    for _ in range(CHUNKS):
        start = file.read(8)
        if len(start) < 8:
            break
        name, length = struct.unpack("<4sI", start)
        after = file.tell() + length + (length & 1)
        if name == b"ANMF":
            frames += 1
        elif canvas is None and name in WEBP:
            canvas = WEBP[name](read(file, 10))
        file.seek(after)
    if canvas is None:
        raise ValueError("no image")
    return Size(canvas.width, canvas.height, max(frames, 1))


def _vp8x(data: bytes) -> Size:
    return Size(int.from_bytes(data[4:7], "little") + 1, int.from_bytes(data[7:10], "little") + 1)


def _vp8(data: bytes) -> Size:
    width, height = struct.unpack("<HH", data[6:10])
    return Size(width & 0x3FFF, height & 0x3FFF)


def _vp8l(data: bytes) -> Size:
    bits = int.from_bytes(data[1:5], "little")
    return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)


WEBP: dict[bytes, Callable[[bytes], Size]] = {b"VP8X": _vp8x, b"VP8 ": _vp8, b"VP8L": _vp8l}


def mp4(file: BinaryIO) -> Size:
    """ISO 14496-12: moov/mvhd for the time, the largest moov/trak/tkhd for the picture (0 x 0: sound only)."""
    width = height = 0
    seconds: float | None = None
    for name, end in _boxes(file, _end(file)):
        if name != b"moov":
            continue
        for inner, inner_end in _boxes(file, end):
            if inner == b"mvhd":
                seconds = _mvhd(file)
            elif inner == b"trak":
                wide, high = _trak(file, inner_end)
                width, height = max(width, wide), max(height, high)
    return Size(width, height, seconds=seconds)


def _end(file: BinaryIO) -> int:
    end = file.seek(0, 2)
    file.seek(0)
    return end


def _boxes(file: BinaryIO, end: int) -> Iterator[tuple[bytes, int]]:
    """Name and end of each box up to `end`; the file stands behind the box header."""
    for _ in range(CHUNKS):
        start = file.tell()
        if start + 8 > end:
            return
        length, name = struct.unpack(">I4s", read(file, 8))
        if length == 1:
            length = struct.unpack(">Q", read(file, 8))[0]
        box_end = start + length if length else end
        if box_end < file.tell() or box_end > end:
            raise ValueError("a box is larger than its parent")
        yield name, box_end
        file.seek(box_end)


def _mvhd(file: BinaryIO) -> float | None:
    long = read(file, 4)[0] == 1
    scale, length = struct.unpack(">16xIQ" if long else ">8xII", read(file, 28 if long else 16))
    return length / scale if scale else None


def _trak(file: BinaryIO, end: int) -> tuple[int, int]:
    for name, _ in _boxes(file, end):
        if name == b"tkhd":
            long = read(file, 4)[0] == 1
            read(file, 84 if long else 72)
            width, height = struct.unpack(">II", read(file, 8))
            return width >> 16, height >> 16
    return 0, 0


READERS: dict[str, Callable[[BinaryIO], Size]] = {
    "image/png": png,
    "image/jpeg": jpeg,
    "image/gif": gif,
    "image/webp": webp,
    "video/mp4": mp4,
    "video/quicktime": mp4,
    "audio/mp4": mp4,
}
