"""Bytes on the wire: ranges, validators and the headers that keep user content from running anywhere."""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from django.http import HttpResponse, HttpResponseNotModified, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import parse_etags

from genpulse.errors import NotFound
from media.models import Asset
from media.refs import disposition
from media.storages import read

CHUNK = 256 << 10
RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Shown:
    """A stored file as it is served; `tag` is its strong validator."""

    key: str
    content_type: str
    filename: str
    tag: str


def original(asset: Asset) -> Shown:
    return Shown(asset.key, asset.content_type, asset.filename, f'"{asset.sha256}"')


def small(asset: Asset) -> Shown:
    """The thumbnail; the caller knows that there is one."""
    name = f"{asset.filename}.webp"
    return Shown(asset.thumbnail_key or "", "image/webp", name, f'"{asset.sha256}-small"')


def serve(
    shown: Shown, method: str, headers: Mapping[str, str], download: bool = False
) -> HttpResponseBase:
    """200, 206, 304 or 416 for a GET or HEAD. Raises NotFound when the bytes are gone."""
    fixed = {
        "ETag": shown.tag,
        "Accept-Ranges": "bytes",
        # Deleting and expiry count at once: a browser may keep the bytes, but has to ask.
        "Cache-Control": "private, no-cache",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": disposition(shown.content_type, shown.filename, download),
    }
    known = parse_etags(headers.get("If-None-Match", ""))
    if shown.tag in known or "*" in known:
        return HttpResponseNotModified(headers=fixed)
    return _send(shown, method, headers, fixed)


def _send(
    shown: Shown, method: str, headers: Mapping[str, str], fixed: dict[str, str]
) -> HttpResponseBase:
    try:
        file = read(shown.key)
        size = file.seek(0, 2)
    except FileNotFoundError:
        raise NotFound from None
    wanted = headers.get("Range", "") if headers.get("If-Range", shown.tag) == shown.tag else ""
    span = wanted_span(wanted, size)
    start, end = span or (0, size)
    if start >= end and span is not None:
        file.close()
        return HttpResponse(status=416, headers={**fixed, "Content-Range": f"bytes */{size}"})
    if span is not None:
        fixed["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    text = shown.content_type == "text/plain"
    file.seek(start)
    return StreamingHttpResponse(
        Slice(file, end - start if method == "GET" else 0),
        status=200 if span is None else 206,
        content_type="text/plain; charset=utf-8" if text else shown.content_type,
        headers={**fixed, "Content-Length": str(end - start)},
    )


def wanted_span(header: str, size: int) -> tuple[int, int] | None:
    """First byte and the one after the last (RFC 9110, 14.1.2), an empty span where there are none.

    None for everything: what is not one readable range is ignored.
    """
    match = RANGE.fullmatch(header)
    if match is None or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(size - int(last), 0), size
    if last and int(last) < int(first):
        return None
    return int(first), min(int(last) + 1, size) if last else size


class Slice:
    """`length` bytes of an open file, read in threads: under ASGI Django would first collect all that
    an ordinary iterator gives."""

    def __init__(self, file: BinaryIO, length: int) -> None:
        self.file = file
        self.left = length

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.left > 0:
            chunk = await asyncio.to_thread(self.file.read, min(CHUNK, self.left))
            if not chunk:
                return
            self.left -= len(chunk)
            yield chunk

    def close(self) -> None:
        self.file.close()
