"""Size and length of WebM and Matroska (RFC 9559) by their structure."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from media.headers import CHUNKS, Size, read

# Segment, Info, Tracks, Video, Cluster, BlockGroup
CONTAINERS = frozenset({0x18538067, 0x1549A966, 0x1654AE6B, 0xE0, 0x1F43B675, 0xA0})
DEEPEST = 5
TRACK, WIDTH, HEIGHT = 0xAE, 0xB0, 0xBA
SCALE, DURATION = 0x2AD7B1, 0x4489
BLOCKS = frozenset({0xA3, 0xA1})  # SimpleBlock, Block
LARGEST_EDGE = 1 << 16  # pixels


def size(file: BinaryIO) -> Size:
    """The largest picture of its tracks and the time, as far as they are said before the first cluster.

    Raises ValueError for a file that is cut or lies about its structure.
    """
    width = height = 0
    scale, duration = 1_000_000, 0.0
    for name, end in _elements(file, _length(file)):
        if name in BLOCKS:
            break
        if name == TRACK:
            said = _children(file, end)
            width = max(width, _edge(said.get(WIDTH)))
            height = max(height, _edge(said.get(HEIGHT)))
        elif name == SCALE:
            scale = _number(_body(file, end))
        elif name == DURATION:
            duration = _float(_body(file, end))
    return Size(width, height, seconds=round(duration * scale / 1e9, 3) or None)


def _length(file: BinaryIO) -> int:
    end = file.seek(0, 2)
    file.seek(0)
    return end


def _elements(file: BinaryIO, end: int, depth: int = 0) -> Iterator[tuple[int, int]]:
    """Identity and end of each element up to `end`, those in containers too; the file stands at its content."""
    for _ in range(CHUNKS):
        if file.tell() >= end:
            return
        identity = _vint(file, marked=True)
        length = _vint(file, unknown=end)
        inner = end if length == end else file.tell() + length
        if inner > end:
            raise ValueError("an element is larger than its parent")
        if identity in CONTAINERS and depth < DEEPEST:
            yield from _elements(file, inner, depth + 1)
        else:
            yield identity, inner
        file.seek(inner)
    raise ValueError("too many elements")


def _children(file: BinaryIO, end: int) -> dict[int, bytes]:
    wanted = {WIDTH, HEIGHT}
    return {name: _body(file, at) for name, at in _elements(file, end) if name in wanted}


def _body(file: BinaryIO, end: int) -> bytes:
    """A number or a word."""
    return read(file, min(end - file.tell(), 64))


def _number(body: bytes | None) -> int:
    return int.from_bytes((body or b"")[-8:], "big")


def _edge(body: bytes | None) -> int:
    pixels = _number(body)
    if pixels > LARGEST_EDGE:
        raise ValueError("the picture is too large")
    return pixels


def _float(body: bytes) -> float:
    form = {4: ">f", 8: ">d"}.get(len(body))
    value = struct.unpack(form, body)[0] if form else 0.0
    return value if 0 <= value < 1e15 else 0.0


def _vint(file: BinaryIO, *, marked: bool = False, unknown: int = 0) -> int:
    """A number of RFC 8794, with its length marker where it is an identity; all ones say `unknown`."""
    first = read(file, 1)[0]
    if not first:
        raise ValueError("a number is too long")
    more = 8 - first.bit_length()
    value = int.from_bytes(bytes([first]) + read(file, more), "big")
    if marked:
        return value
    ones = (1 << 7 * (more + 1)) - 1
    return unknown if value & ones == ones else value & ones
