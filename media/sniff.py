"""What bytes really are, whatever their name or sender says.

Only types recognised by the rules of this file may be shown inline by a browser; puremagic names the
rest, which is served as an attachment.
"""

import json
from codecs import getincrementaldecoder
from collections.abc import Callable

from media.models import Kind

HEAD = 8192  # bytes that decide
UNKNOWN = "application/octet-stream"

IMAGES = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
INLINE = IMAGES | {"video/mp4", "video/webm", "audio/mpeg", "audio/wav", "text/plain"}
ACTIVE = frozenset({"text/html", "image/svg+xml", "application/xhtml+xml", "text/xml"})

# The extension of a key. Active content is "bin": whoever serves the folder with a plain file server
# must not run it either.
EXTENSIONS = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/avif": "avif",
    "image/heic": "heic",
    "image/bmp": "bmp",
    "image/tiff": "tif",
    "video/mp4": "mp4",
    "video/webm": "webm",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "audio/mpeg": "mp3",
    "audio/wav": "wav",
    "audio/ogg": "ogg",
    "audio/flac": "flac",
    "audio/mp4": "m4a",
    "audio/aac": "aac",
    "text/plain": "txt",
    "application/json": "json",
    "application/pdf": "pdf",
    "application/zip": "zip",
    "model/gltf-binary": "glb",
}

ALIASES = {
    "image/jpg": "image/jpeg",
    "image/x-png": "image/png",
    "audio/mp3": "audio/mpeg",
    "audio/x-wav": "audio/wav",
    "audio/wave": "audio/wav",
    "audio/vnd.wave": "audio/wav",
    "audio/x-flac": "audio/flac",
    "audio/opus": "audio/ogg",
    "audio/x-m4a": "audio/mp4",
    "video/x-m4v": "video/mp4",
}

PREFIXES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"ID3", "audio/mpeg"),
    (b"%PDF-", "application/pdf"),
    (b"PK\x03\x04", "application/zip"),
    (b"glTF", "model/gltf-binary"),
)
BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heic",
    b"qt  ": "video/quicktime",
    b"M4A ": "audio/mp4",
    b"M4B ": "audio/mp4",
}
# Types that the rules below always find, so that other bytes cannot be one of them.
RECOGNISED = (
    IMAGES | {name for _, name in PREFIXES} | {"video/mp4", "video/webm", "audio/wav"}
) - {
    "audio/mpeg"  # a frame may start anywhere
}
# https://mimesniff.spec.whatwg.org/#identifying-a-resource-with-an-unknown-mime-type
MARKUP = (
    b"<!doctype html",
    b"<!--",
    b"<html",
    b"<head",
    b"<body",
    b"<script",
    b"<iframe",
    b"<style",
    b"<title",
    b"<table",
    b"<div",
    b"<font",
    b"<img",
    b"<a ",
    b"<h1",
    b"<p>",
    b"<br",
    b"<b>",
)
TEXT_BYTES = frozenset(range(0x20, 0x100)) | {0x09, 0x0A, 0x0C, 0x0D, 0x1B}


def sniff(head: bytes) -> str:
    """The content type of a file that begins with `head` (its first 8 KiB, or all of it)."""
    rules: tuple[Callable[[bytes], str | None], ...] = (_prefix, _riff, _iso, _ebml, _mpeg, _text)
    for rule in rules:
        if found := rule(head):
            return found
    return _puremagic(head)


def kind_of(content_type: str) -> Kind:
    """`image/png` -> image. Active content (SVG, HTML) is always a plain file."""
    if content_type in ACTIVE:
        return Kind.FILE
    major = content_type.partition("/")[0]
    if major in {"image", "video", "audio"}:
        return Kind(major)
    return Kind.TEXT if content_type in {"text/plain", "application/json"} else Kind.FILE


def extension_of(content_type: str) -> str:
    """From the allow-list, else `bin`; never from a name."""
    return EXTENSIONS.get(content_type, "bin")


def settle(sniffed: str, declared: str | None) -> str:
    """The declared type counts only where the bytes say nothing, and only if no browser shows it."""
    harmless = declared in EXTENSIONS and declared not in INLINE
    return declared if sniffed == UNKNOWN and declared and harmless else sniffed


def agree(declared: str, found: str) -> bool:
    """May bytes of type `found` come under the name `declared`? Only what can be recognised must match."""
    declared = ALIASES.get(declared, declared)
    if declared in {found, UNKNOWN}:
        return True
    if _container(declared) and _container(declared) == _container(found):  # audio/webm, video/webm
        return True
    recognised = found in EXTENSIONS and found not in {"text/plain", "application/zip"}
    return not recognised and found not in ACTIVE and declared not in RECOGNISED


def _container(content_type: str) -> str:
    major, _, minor = content_type.partition("/")
    return minor if major in {"audio", "video"} else ""


def _prefix(head: bytes) -> str | None:
    return next((name for magic, name in PREFIXES if head.startswith(magic)), None)


def _riff(head: bytes) -> str | None:
    if head[:4] != b"RIFF":
        return None
    return {b"WEBP": "image/webp", b"WAVE": "audio/wav"}.get(head[8:12])


def _iso(head: bytes) -> str | None:
    return BRANDS.get(head[8:12], "video/mp4") if head[4:8] == b"ftyp" else None


def _ebml(head: bytes) -> str | None:
    if not head.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    # The header of a file holds some ten numbers before the name, of up to eleven bytes each.
    return "video/webm" if b"webm" in head[:128] else "video/x-matroska"


def _mpeg(head: bytes) -> str | None:
    """An MPEG audio frame: 11 sync bits, layer III, a legal bit rate and sample rate."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    legal = head[2] >> 4 not in {0, 15} and head[2] & 0x0C != 0x0C
    return "audio/mpeg" if legal else None


def _text(head: bytes) -> str | None:
    if not head or not TEXT_BYTES.issuperset(head):
        return None
    try:  # a character may be cut only where the head is
        text = getincrementaldecoder("utf-8-sig")().decode(head, final=len(head) < HEAD)
    except UnicodeDecodeError:
        return None
    return _markup(text.lstrip().lower().encode()) or _json(text) or "text/plain"


def _markup(start: bytes) -> str | None:
    if b"<svg" in start and start.startswith((b"<svg", b"<?xml", b"<!doctype svg", b"<!--")):
        return "image/svg+xml"
    if start.startswith(b"<?xml"):
        return "application/xhtml+xml" if b"<html" in start else "text/xml"
    return "text/html" if start.startswith(MARKUP) else None


def _json(text: str) -> str | None:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return "application/json"


def _puremagic(head: bytes) -> str:
    import puremagic

    try:
        found = str(puremagic.from_string(head, mime=True))
    except (puremagic.PureError, ValueError):
        return UNKNOWN
    return UNKNOWN if not found or found in INLINE else found
