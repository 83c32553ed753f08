"""The media inputs of a call, opened only when an adapter asks for them."""

from collections.abc import Container, Iterator
from dataclasses import dataclass
from mimetypes import guess_type
from typing import Any
from urllib.parse import urlsplit

from genpulse.errors import UrlNotAllowed
from media import services as media
from media.services import InputFile
from providers.base import Input, ProviderError
from tasks import workflows
from tasks.work import Work

MEDIA_NAMES = frozenset({"images", "mask", "video", "audio", "image_url", "video_url", "audio_url"})


class StoredInput(Input):
    """An asset of the owner."""

    def __init__(self, file: InputFile) -> None:
        self.file = file
        self.content_type = file.content_type
        self.filename = file.filename

    def url(self) -> str:
        return media.sign_key(self.file.key, self.content_type, self.filename or "").url

    def bytes(self) -> bytes:
        opener, _ = media.load_input(self.file)
        with opener() as stream:
            return stream.read()


class LinkedInput(Input):
    """An address the client gave; passed on as it is, or fetched through the guard."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.content_type = guess_type(urlsplit(address).path)[0] or "application/octet-stream"
        self._download: Download | None = None

    def url(self) -> str:
        return self.address

    def bytes(self) -> bytes:
        return self._load().content

    def _load(self) -> "Download":
        if self._download is None:
            self._download = download(self.address)
            self.content_type = self._download.content_type
        return self._download


@dataclass(frozen=True, slots=True)
class Download:
    content: bytes
    content_type: str


def download(address: str) -> Download:
    """Through the guard. Raises ProviderError: an input nobody can read is the request's own fault."""
    try:
        opener, kind = media.load_input(address)
    except (media.FetchError, UrlNotAllowed) as error:
        raise ProviderError("bad_input", "An input address could not be fetched.") from error
    with opener() as stream:
        return Download(stream.read(), kind)


def inputs_of(work: Work) -> dict[str, Input]:
    """Every media file of the request by its place: `mask`, `images.0`, `messages.0.content.1.image_url`."""
    named = workflows.media_places(work.input.get("workflow"))
    places = _places(work.input, "", False, named)
    found = {path: _input(text, is_media, work) for path, text, is_media in places}
    return {path: value for path, value in found.items() if value is not None}


def _input(text: str, is_media: bool, work: Work) -> Input | None:
    if text.startswith("asset:"):
        if text not in work.files:
            raise ProviderError("bad_input", "An input asset was deleted.", "asset_not_found")
        return StoredInput(work.files[text])
    return LinkedInput(text) if is_media and text.startswith(("http://", "https://")) else None


def _places(
    value: Any, path: str, is_media: bool, named: Container[str]
) -> Iterator[tuple[str, str, bool]]:
    """Every text with its dotted place and whether media is expected there."""
    if isinstance(value, str):
        yield path, value, is_media or path in named
        return
    children = enumerate(value) if isinstance(value, list) else ()
    for name, item in value.items() if isinstance(value, dict) else children:
        inner = path if name == "url" and is_media else f"{path}.{name}".lstrip(".")
        yield from _places(item, inner, is_media or name in MEDIA_NAMES, named)
