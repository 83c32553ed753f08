"""Streamed answers from a reader's side: pieces lost, repeated, begun anew; and the joined result."""

import asyncio
import json
from typing import Any, cast

import pytest
from redis.exceptions import ConnectionError as Away

from tasks.deltas import DeltaReader, Deltas, Said


class Streams:
    """A Redis with one stream, which tests cut to pieces."""

    def __init__(self) -> None:
        self.entries: list[tuple[int, dict[str, Any]]] = []
        self.count, self.away = 0, False

    def say(self, text: str, n: int, attempt: int = 1, reset: bool = False) -> None:
        said = Said(text)
        piece = said.piece(attempt, reset=reset)
        self.count += 1
        self.entries.append((self.count, {**piece, "n": n}))

    async def xrange(self, _key: str, min: str, max: str) -> list[Any]:  # noqa: A002 - Redis' words
        if self.away:
            raise Away
        after = int(min[1:].split("-", maxsplit=1)[0])
        return [
            (f"{id_}-0".encode(), {b"d": json.dumps(piece).encode()})
            for id_, piece in self.entries
            if id_ > after
        ]


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.fixture
def reader(streams: Streams) -> DeltaReader:
    return DeltaReader(cast(Any, streams), "task")


def news(reader: DeltaReader) -> list[tuple[str, bool]]:
    return [(piece["text"], piece["reset"]) for piece in asyncio.run(reader.news())]


def test_pieces_in_order_as_they_come(streams, reader):
    assert news(reader) == []
    streams.say("a ", 0)
    streams.say("red ", 1)
    assert news(reader) == [("a ", False), ("red ", False)]
    streams.say("kite", 2)
    assert news(reader) == [("kite", False)]
    assert news(reader) == []


def test_a_late_reader_gets_everything_so_far(streams, reader):
    streams.say("a ", 0)
    streams.say("red ", 1)
    [whole] = asyncio.run(reader.catch_up())
    assert [whole["text"], whole["reset"], whole["offset"]] == ["a red ", True, 0]
    streams.say("kite", 2)
    assert news(reader) == [("kite", False)]


def test_a_hole_waits_until_the_writer_has_mended_it(streams, reader):
    streams.say("a ", 0)
    news(reader)
    streams.say("kite", 2)
    assert news(reader) == []
    streams.say("a red kite", 3, reset=True)
    assert news(reader) == [("a red kite", True)]


def test_a_reader_that_missed_pieces_reads_the_stream_anew(streams, reader):
    streams.say("a ", 0)
    news(reader)
    first = streams.entries.pop()
    streams.say("a red ", 1, reset=True)
    streams.say("kite", 2)
    streams.entries[0] = (first[0], streams.entries[0][1])  # it came while we looked away
    assert news(reader) == [("a red kite", True)]


def test_a_stream_that_was_flushed_begins_again_with_everything(streams, reader):
    streams.say("a ", 0)
    news(reader)
    streams.entries.clear()
    streams.say("a red kite", 2, reset=True)
    streams.say("!", 3)
    assert news(reader) == [("a red kite", True), ("!", False)]


def test_what_is_repeated_is_not_told_again(streams, reader):
    streams.say("a ", 0)
    news(reader)
    streams.say("a ", 0)
    streams.say("kite", 1)
    assert news(reader) == [("kite", False)]


def test_another_attempt_drops_what_was_said(streams, reader):
    streams.say("a red", 0)
    news(reader)
    streams.say("a blue", 0, attempt=2)
    assert news(reader) == [("a blue", True)]
    assert reader.attempt == 2


@pytest.mark.parametrize(
    ("heard", "missing"),
    [("", "a kite"), ("a ", "a kite"), ("a kite", None)],
)
def test_the_end_makes_good_what_is_missing(streams, reader, heard, missing):
    if heard:
        streams.say(heard, 0)
        news(reader)
    streams.away = True
    pieces = asyncio.run(reader.rest({"text": "a kite", "message": None}))
    assert [(piece["text"], piece["reset"]) for piece in pieces] == (
        [(missing, True)] if missing else []
    )


def test_a_result_that_was_removed_tells_nothing(reader):
    assert asyncio.run(reader.rest(None)) == []


def test_readers_by_task(streams):
    deltas = Deltas(cast(Any, streams))
    streams.say("a ", 0)
    assert [piece["reset"] for piece in asyncio.run(deltas.news("t"))] == [True]
    streams.say("kite", 1)
    assert [piece["text"] for piece in asyncio.run(deltas.news("t"))] == ["kite"]
    assert asyncio.run(deltas.rest("t", {"text": "a kite"})) == []
    assert deltas.readers == {}


def test_pieces_of_tool_calls_are_joined_by_index():
    said = Said()
    said.add(
        "",
        "",
        [{"index": 0, "id": "c", "type": "function", "function": {"name": "fly", "arguments": ""}}],
    )
    said.add("", "hm", [{"index": 1, "id": "d", "function": {"name": "land"}}])
    said.add("", "", [{"index": 0, "function": {"arguments": '{"high"'}}])
    said.add("", "", [{"index": 0, "function": {"arguments": ":true}"}}])
    assert said.tool_calls == [
        {
            "index": 0,
            "id": "c",
            "type": "function",
            "function": {"name": "fly", "arguments": '{"high":true}'},
        },
        {"index": 1, "id": "d", "function": {"name": "land"}},
    ]
    assert not said.empty
    assert Said().empty
