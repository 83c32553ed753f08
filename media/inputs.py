"""Media that a request brings along: data URIs become assets, references and URLs are checked.

Order at submit: `resolve_inputs`, then `adopt_data_uris` (it writes bytes, so outside the transaction),
then `insert_many` of the prepared assets inside it, or `discard` when there will be no transaction.
"""

import base64
import binascii
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from tempfile import TemporaryFile
from types import MappingProxyType
from typing import Any, BinaryIO, cast
from uuid import UUID

from genpulse.config import config
from genpulse.errors import AssetNotFound, FieldError, MediaRejected, Problem, UrlNotAllowed
from genpulse.ids import parse_id
from media.assets import discard, prepare
from media.fetch import check_url, fetch
from media.models import Asset, Kind, Origin
from media.sniff import HEAD, IMAGES, settle, sniff
from media.storages import read

DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII)
MOST = 64  # data URIs in one request
INPUT_SECONDS = 60.0
CHECK_SECONDS = 10.0  # for all look-ups of one request: name servers may be an attacker's

# Input names whose values are media, and what the asset behind a value may be.
FITS: dict[str, Callable[[Asset], bool]] = {
    "images": lambda asset: asset.content_type in IMAGES,
    "mask": lambda asset: asset.content_type in IMAGES,
    "video": lambda asset: asset.kind in {Kind.VIDEO, Kind.FILE},
    "audio": lambda asset: asset.kind in {Kind.AUDIO, Kind.VIDEO, Kind.FILE},
}
# Chat messages carry theirs as {"type": "image_url", "image_url": {"url": ...}}.
URL_PARTS = frozenset({"image_url", "video_url", "audio_url"})
PICTURES = frozenset({"images", "mask", "image_url"})
Places = Mapping[str, str]
NO_PLACES: Places = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """All that a worker needs to read an input without the database."""

    key: str
    content_type: str
    filename: str
    size: int


@dataclass(frozen=True, slots=True)
class Place:
    """One text found in a JSON value, its dotted path there, and the media input it belongs to."""

    path: str
    text: str
    name: str | None

    @property
    def asset_id(self) -> UUID | None:
        """`asset:<id>` counts anywhere, a bare id only where media is expected."""
        if self.text.startswith("asset:"):
            return parse_id(self.text.removeprefix("asset:"))
        return parse_id(self.text) if self.name else None


def resolve_inputs(
    account_id: UUID, value: Any, path: str = "input", places: Places = NO_PLACES
) -> Any:
    """`value` with every bare asset id of a media field written as `asset:<id>`.

    `places`: dotted places that are media too, each with the input name whose rules hold there.

    One query. Raises AssetNotFound for an id that is unknown or another owner's, MediaRejected for an
    asset of the wrong kind, UrlNotAllowed for an address the guard refuses; each names its field
    below `path`.
    """
    texts = list(_texts(value, places))
    found = _owned(account_id, {place.asset_id for place in texts if place.asset_id})
    until = time.monotonic() + CHECK_SECONDS
    for place in texts:
        with _named(f"{path}.{place.path}"):
            _check(place, found)
            if time.monotonic() > until:
                raise UrlNotAllowed("The hosts of these URLs answer too slowly.")
    return _replace(
        value, lambda place: f"asset:{place.asset_id}" if place.asset_id else None, places
    )


def adopt_data_uris(
    account_id: UUID, value: Any, path: str = "input", places: Places = NO_PLACES
) -> tuple[Any, list[Asset]]:
    """`value` with every `data:<type>;base64,...` replaced by `asset:<id>`, and the prepared assets.

    Raises MediaRejected naming the field; whatever was written until then is erased again.
    """
    prepared: list[Asset] = []

    def adopt(place: Place) -> str | None:
        if not DATA_URI.match(place.text):
            return None
        with _named(f"{path}.{place.path}"):
            if len(prepared) == MOST:
                raise MediaRejected(f"More than {MOST} data URIs.")
            prepared.append(_adopt(account_id, place))
        return f"asset:{prepared[-1].id}"

    try:
        return _replace(value, adopt, places), prepared
    except BaseException:
        discard(prepared)
        raise


def input_files(account_id: UUID, value: Any) -> dict[str, InputFile]:
    """Every `asset:<id>` in a resolved value -> its file; one query. What was deleted is left out."""
    ids = {place.asset_id for place in _texts(value) if place.text.startswith("asset:")}
    return {
        f"asset:{asset.id}": InputFile(
            key=asset.key,
            content_type=asset.content_type,
            filename=asset.filename,
            size=asset.size,
        )
        for asset in _owned(account_id, {found for found in ids if found}).values()
    }


def load_input(source: InputFile | str) -> tuple[Callable[[], BinaryIO], str]:
    """How to open an input, and its content type; for workers, without a database.

    A URL is downloaded through the guard here and now, and can be opened once. Raises UrlNotAllowed,
    FetchError.
    """
    if isinstance(source, InputFile):
        return partial(read, source.key), source.content_type
    file = cast("BinaryIO", TemporaryFile())  # noqa: SIM115 - the opener hands it over
    try:
        fetched = fetch(
            source,
            sink=file,
            purpose="input",
            max_bytes=config.max_upload_bytes,
            deadline=INPUT_SECONDS,
        )
    except BaseException:
        file.close()
        raise
    file.seek(0)
    content_type = settle(sniff(file.read(HEAD)), fetched.content_type)
    file.seek(0)
    return lambda: file, content_type


def _owned(account_id: UUID, ids: set[UUID]) -> dict[UUID, Asset]:
    if not ids:
        return {}
    owned = Asset.objects.filter(account_id=account_id, deleted_at__isnull=True)
    return owned.in_bulk(list(ids))


def _check(place: Place, found: dict[UUID, Asset]) -> None:
    if place.asset_id:
        asset = found.get(place.asset_id)
        if asset is None:
            raise AssetNotFound
        if place.name in FITS and not FITS[place.name](asset):
            raise MediaRejected(f"{asset.content_type} is not accepted here.")
    elif place.name and place.text.startswith("asset:"):
        raise AssetNotFound
    elif place.name and not DATA_URI.match(place.text):
        check_url(place.text, purpose="input")


def _adopt(account_id: UUID, place: Place) -> Asset:
    declared, _, encoded = place.text.partition(",")
    content_type = declared[5:].partition(";")[0].lower()
    try:
        data = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise MediaRejected("This is not base64.") from None
    if len(data) > config.max_upload_bytes:
        raise MediaRejected("The file is too large.")
    pictured = content_type.startswith("image/") or place.name in PICTURES
    if pictured and sniff(data[:HEAD]) not in IMAGES:
        raise MediaRejected("Images must be jpeg, png, webp or gif.")
    return prepare(account_id, data, origin=Origin.INPUT, content_type=content_type)


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Refusals raised inside name the field `path`."""
    try:
        yield
    except Problem as problem:
        item = FieldError(path, "choice", problem.detail)
        raise type(problem)(f"{path}: {problem.detail}", errors=[item]) from None


def _texts(
    value: Any, places: Places = NO_PLACES, path: str = "", name: str | None = None
) -> Iterator[Place]:
    if isinstance(value, str):
        yield Place(path, value, name)
    elif isinstance(value, (dict, list)):
        for step, item, inner in _children(value, path, name, places):
            yield from _texts(item, places, step, inner)


def _replace(
    value: Any,
    change: Callable[[Place], str | None],
    places: Places,
    path: str = "",
    name: str | None = None,
) -> Any:
    """A copy of `value` in which `change` has replaced the texts it has an answer for."""
    if isinstance(value, str):
        new = change(Place(path, value, name))
        return value if new is None else new
    if not isinstance(value, (dict, list)):
        return value
    children = [
        _replace(item, change, places, step, inner)
        for step, item, inner in _children(value, path, name, places)
    ]
    return dict(zip(value, children, strict=True)) if isinstance(value, dict) else children


def _children(
    value: dict[str, Any] | list[Any], path: str, name: str | None, places: Places
) -> Iterator[tuple[str, Any, str | None]]:
    """Path, value and media name of each child; input names count at the top only."""
    prefix = f"{path}." if path else ""
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield f"{prefix}{index}", item, name
        return
    for key, item in value.items():
        media = key if key in URL_PARTS or (key in FITS and not path) else None
        inherited = name if name in URL_PARTS and key == "url" else None
        place = f"{prefix}{key}"
        yield place, item, media or inherited or places.get(place)
