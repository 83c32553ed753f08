"""What a Coze workflow returns: JSON inside text, often twice, with media as addresses somewhere in it."""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from providers.base import Output, OutputKind

DEPTH = 16  # of texts in texts, and of lists and objects
ENDINGS: dict[OutputKind, str] = {
    "image": "png jpg jpeg webp gif bmp image",
    "video": "mp4 mov webm m4v avi mkv",
    "audio": "mp3 wav m4a ogg flac aac",
}
BY_ENDING = {ending: kind for kind, endings in ENDINGS.items() for ending in endings.split()}
ENDING = re.compile(r"\.(\w+)(?=~|$)")  # the CDN appends how it scales: photo.png~tplv-x.image
ADDRESS = re.compile(r"https?://\S+")
BY_NAME: dict[OutputKind, re.Pattern[str]] = {
    "image": re.compile(r"(?i)image|img|pic|photo|cover|poster"),
    "video": re.compile(r"(?i)video|movie"),
    "audio": re.compile(r"(?i)audio|voice|speech|music"),
}


@dataclass(frozen=True)
class Result:
    """`output`: the fields of the End node, or its text. `text`: the one text there is, if there is one."""

    output: Any
    text: str | None = None
    files: list[Output] = field(default_factory=list)


def read(value: Any) -> Result | None:
    """The result in `data` of a run; None for an empty one."""
    output = decoded(value)
    if isinstance(output, dict) and "type_for_model" in output:
        output = decoded(output.get("data"))
    if output in (None, "", {}, []):
        return None
    files = {place.url: place for place in _files(output)}
    return Result(output, _text(output), list(files.values()))


def decoded(value: Any, depth: int = DEPTH) -> Any:
    """`value` with every text that is a JSON object or list read, however deep."""
    if depth == 0:
        return value
    if isinstance(value, str):
        inner = _parsed(value)
        return value if inner is None else decoded(inner, depth - 1)
    if isinstance(value, dict):
        return {name: decoded(item, depth - 1) for name, item in value.items()}
    return [decoded(item, depth - 1) for item in value] if isinstance(value, list) else value


def _parsed(text: str) -> dict[str, Any] | list[Any] | None:
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        found = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def _finite(word: str) -> float:
    """A result is stored as JSON, which knows no NaN."""
    number = float(word)
    if not math.isfinite(number):
        raise ValueError(word)
    return number


def _leaves(value: Any, name: str = "", depth: int = DEPTH) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, dict | list):
        yield name, value
    elif depth:
        items = value.items() if isinstance(value, dict) else ((name, item) for item in value)
        for key, item in items:
            yield from _leaves(item, str(key), depth - 1)


def _files(output: Any) -> Iterator[Output]:
    for name, value in _leaves(output):
        kind = _kind(name, value)
        if kind:
            yield Output(kind, url=value)


def _kind(name: str, value: Any) -> OutputKind | None:
    """What an address leads to, by its ending, else by the name of its field."""
    if not isinstance(value, str) or not ADDRESS.fullmatch(value):
        return None
    endings = ENDING.findall(re.split(r"[?#]", value)[0].rpartition("/")[2].lower())
    if endings:
        return next((BY_ENDING[ending] for ending in endings if ending in BY_ENDING), None)
    return next((kind for kind, names in BY_NAME.items() if names.search(name)), None)


def _text(output: Any) -> str | None:
    leaves = [(name, value) for name, value in _leaves(output) if not _kind(name, value)]
    texts = [(name, value) for name, value in leaves if isinstance(value, str) and value]
    named = [value for name, value in texts if name.lower() == "output"]
    only = texts[0][1] if len(texts) == 1 else None
    return named[0] if len(named) == 1 else only
