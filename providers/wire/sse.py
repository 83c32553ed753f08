"""Server-sent events and lines of JSON, from the pieces of an answer as they arrive.

Pieces may end anywhere, in the middle of a character too. Format: WHATWG HTML, section 9.2.
"""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from providers.faults import bad_response

END = re.compile(r"\r\n|\n|\r(?!\Z)")  # a last CR may be half of a CRLF
MAX_LINE = 32_000_000  # characters; inline images come as one line


@dataclass(frozen=True)
class Event:
    data: str
    event: str = "message"
    id: str = ""


def lines(pieces: Iterable[bytes]) -> Iterator[str]:
    """Text lines without their ends (LF, CRLF or CR), the last one also when it has no end.

    Raises ProviderError (`bad_response`) on an endless line.
    """
    decode = codecs.getincrementaldecoder("utf-8-sig")("replace").decode
    held = [""]
    for piece in pieces:
        text = decode(piece)
        held.append(text)
        if "\n" in text or "\r" in text or held[0].endswith("\r"):
            *whole, rest = END.split("".join(held))
            yield from whole
            held = [rest]
        elif sum(map(len, held)) > MAX_LINE:
            raise bad_response(paid=False)
    rest = "".join(held) + decode(b"", True)
    if rest:
        yield rest.removesuffix("\r")


def events(pieces: Iterable[bytes]) -> Iterator[Event]:
    """The events of an event stream. Comments and `retry` are left out; the last event needs no blank line."""
    data: list[str] = []
    kind = identity = ""
    for line in lines(pieces):
        if not line:
            if data:
                yield Event("\n".join(data), kind or "message", identity)
            data, kind = [], ""
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            data.append(value)
        elif name == "event":
            kind = value
        elif name == "id":
            identity = value
    if data:
        yield Event("\n".join(data), kind or "message", identity)


def records(pieces: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The objects of a stream of JSON lines. Raises ProviderError (`bad_response`)."""
    for line in lines(pieces):
        if line.strip():
            yield parsed(line)


def parsed(text: str) -> dict[str, Any]:
    """One JSON object of a stream. Raises ProviderError (`bad_response`)."""
    try:
        data = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise bad_response(paid=False) from None
    if not isinstance(data, dict):
        raise bad_response(paid=False)
    return data


def _refuse(constant: str) -> None:
    """NaN and Infinity are no JSON, and PostgreSQL keeps neither."""
    raise ValueError(constant)
