"""Event streams and JSON lines, however the pieces fall."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.base import ProviderError
from providers.wire import sse
from providers.wire.sse import Event

STREAM = (
    "\ufeffdata: first\r\ndata: ü€😀\r\n\r\n: keep-alive\n\nevent: news\rid: 7\rretry: 10\rdata:{}\r\r"
    "data\n\nnonsense\ndata:  two spaces\n\ndata: no blank line after this"
)
EVENTS = [
    Event("first\nü€😀"),
    Event("{}", "news", "7"),
    Event("", id="7"),
    Event(" two spaces", id="7"),
    Event("no blank line after this", id="7"),
]


def pieces(raw, cuts):
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[start:end] for start, end in pairwise(edges)]


@given(st.lists(st.integers(min_value=0), max_size=12))
def test_pieces_may_end_anywhere(cuts):
    assert list(sse.events(pieces(STREAM.encode(), cuts))) == EVENTS


def test_one_byte_at_a_time():
    assert list(sse.events(bytes([byte]) for byte in STREAM.encode())) == EVENTS


@given(st.lists(st.text(alphabet=st.characters(exclude_characters="\r\n\ufeff", codec="utf-8"))))
def test_lines_are_what_was_written(texts):
    raw = "".join(f"{text}\r\n" for text in texts).encode()

    assert list(sse.lines([raw[:5], raw[5:]])) == texts


def test_the_last_line_needs_no_end():
    assert list(sse.lines([b"a\nb"])) == ["a", "b"]


def test_json_lines():
    raw = b'{"done": false}\n\n{"done": true}'

    assert list(sse.records([raw])) == [{"done": False}, {"done": True}]


@pytest.mark.parametrize("raw", [b"{]", b"[1]", b"<html>", b'{"a": 1', b"[" * 100_000])
def test_other_lines_are_a_bad_response(raw):
    with pytest.raises(ProviderError) as caught:
        list(sse.records([raw]))

    assert (caught.value.kind, caught.value.code) == ("transient", "bad_response")


def test_an_endless_line_ends(monkeypatch):
    monkeypatch.setattr(sse, "MAX_LINE", 100)

    with pytest.raises(ProviderError, match="cannot be read"):
        list(sse.lines(b"x" * 60 for _ in range(1000)))
