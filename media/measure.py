"""Size and length of media, without decoding it: images and films by our header readers, sound by mutagen."""

from dataclasses import dataclass
from typing import Any, BinaryIO

import structlog

from genpulse.errors import MediaRejected
from media import headers, matroska, sniff

PIXELS = 40_000_000
FRAMES = 500
PROBE_BYTES = 8 << 20  # what mutagen may read: a tag can be as large as the file
READERS = headers.READERS | {
    "video/webm": matroska.size,
    "video/x-matroska": matroska.size,
}
log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Measures:
    """Pixels and seconds; None where the file does not say."""

    width: int | None = None
    height: int | None = None
    duration_seconds: float | None = None


def measure(file: BinaryIO, content_type: str, *, trusted: bool = False) -> Measures:
    """Look into `file`. Raises MediaRejected for an image that is broken or would explode when decoded.

    `trusted`: a paid result; it is kept however large it is, and measured if it can be.
    """
    file.seek(0)
    if content_type in sniff.IMAGES and not trusted:
        return guard_image(file, content_type)
    if content_type in READERS:
        return _container(file, content_type)
    if content_type.startswith("audio/"):
        return Measures(duration_seconds=_seconds(file))
    return Measures()


def guard_image(file: BinaryIO, content_type: str) -> Measures:
    """At most 40 megapixels and 500 frames, by what the headers declare."""
    try:
        size = READERS[content_type](file)
    except ValueError as error:
        raise MediaRejected(f"The image cannot be read: {error}.") from error
    if not 0 < size.width * size.height <= PIXELS:
        raise MediaRejected(
            f"The image has {size.width} x {size.height} pixels; 1 to {PIXELS} are allowed."
        )
    if size.frames > FRAMES:
        raise MediaRejected(f"The image has {size.frames} frames; {FRAMES} are allowed.")
    return Measures(width=size.width, height=size.height)


def _container(file: BinaryIO, content_type: str) -> Measures:
    try:
        size = READERS[content_type](file)
    except ValueError as error:
        log.info("media.unmeasured", content_type=content_type, reason=str(error))
        return Measures()
    return Measures(
        width=size.width or None, height=size.height or None, duration_seconds=size.seconds
    )


class Frugal:
    """A file that gives out at most PROBE_BYTES, then nothing."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.left = PROBE_BYTES

    def read(self, count: int = -1) -> bytes:
        if count < 0 or count > self.left:
            count = self.left
        data = self.file.read(count)
        self.left -= len(data)
        return data

    def seek(self, *args: Any) -> int:
        return self.file.seek(*args)

    def tell(self) -> int:
        return self.file.tell()


def _seconds(file: BinaryIO) -> float | None:
    import mutagen
    from mutagen.flac import FLAC
    from mutagen.mp3 import MP3
    from mutagen.oggopus import OggOpus
    from mutagen.oggvorbis import OggVorbis
    from mutagen.wave import WAVE

    try:
        found = mutagen.File(Frugal(file), options=[MP3, WAVE, FLAC, OggOpus, OggVorbis])
    # A parser of hostile files fails in more ways than it lists; a length is never worth an upload.
    except Exception as error:
        log.info("media.unmeasured", content_type="audio", reason=type(error).__name__)
        return None
    return round(float(found.info.length), 3) if found is not None else None
