"""Bodies become typed values or refusals in the words of the contract."""

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, StringConstraints

from genpulse.errors import MalformedBody, ValidationFailed
from genpulse.http import strict_json
from genpulse.http.parsing import (
    AwareTime,
    Body,
    CommaList,
    Duration,
    Flag,
    Id,
    MoneyMicro,
    parse,
    render_time,
    wrong,
)


class Item(Body):
    prompt: Annotated[str, StringConstraints(min_length=1, max_length=5)]
    n: Annotated[int, Field(ge=1, le=4)] = 1


class Order(Body):
    items: Annotated[list[Item], Field(min_length=2, max_length=3)] = []
    kind: Literal["all", "race"] = "all"
    model: str | list[str] = "m"
    every: Duration = 0
    price: MoneyMicro = 0
    at: AwareTime | None = None
    key: Id | None = None
    tag: Annotated[str, StringConstraints(pattern="^[a-z]+$")] = "a"
    names: Annotated[list[str], Field(min_length=1)] = ["x"]


def refused(data: object, prefix: str = "") -> list[tuple[str, str]]:
    with pytest.raises(ValidationFailed) as caught:
        parse(Order, data, prefix=prefix)
    return [(error.field, error.code) for error in caught.value.errors]


@pytest.mark.parametrize(
    ("data", "field", "code"),
    [
        ({"nope": 1}, "nope", "unknown"),
        ({"items": [{"prompt": "a"}, {}]}, "items.1.prompt", "required"),
        ({"items": [{"prompt": "a"}, {"prompt": ""}]}, "items.1.prompt", "empty"),
        ({"items": [{"prompt": "a"}, {"prompt": "abcdef"}]}, "items.1.prompt", "too_long"),
        ({"items": [{"prompt": "a", "n": 0}, {"prompt": "a"}]}, "items.0.n", "too_small"),
        ({"items": [{"prompt": "a", "n": 5}, {"prompt": "a"}]}, "items.0.n", "too_large"),
        ({"items": [{"prompt": "a", "n": "1"}, {"prompt": "a"}]}, "items.0.n", "type"),
        ({"items": [{"prompt": "a", "n": True}, {"prompt": "a"}]}, "items.0.n", "type"),
        ({"items": [{"prompt": "a"}]}, "items", "too_short"),
        ({"items": [{"prompt": "a"}] * 4}, "items", "too_long"),
        ({"items": {}}, "items", "type"),
        ({"items": ["a", "b"]}, "items.0", "type"),
        ({"names": []}, "names", "empty"),
        ({"kind": "some"}, "kind", "choice"),
        ({"model": 5}, "model", "type"),
        ({"model": ["a", 5]}, "model.1", "type"),
        ({"tag": "A"}, "tag", "format"),
        ({"key": "x"}, "key", "format"),
        ({"every": -1}, "every", "too_small"),
        ({"every": 1.5}, "every", "type"),
        ({"every": "1w"}, "every", "format"),
        ({"every": True}, "every", "type"),
        ({"price": "1e3"}, "price", "format"),
        ({"price": "0.0000001"}, "price", "format"),
        ({"price": "9" * 18}, "price", "too_large"),
        ({"price": []}, "price", "type"),
        ({"at": "2026-11-21T10:00:00"}, "at", "format"),
        ({"at": "2026-02-30T10:00:00Z"}, "at", "format"),
        ({"at": "0001-01-01T00:00:00+14:00"}, "at", "format"),
        ({"at": 5}, "at", "type"),
    ],
)
def test_each_rule_names_the_field_and_its_code(data, field, code):
    assert refused(data)[0] == (field, code)


def test_all_wrong_fields_are_named_at_once():
    assert refused({"nope": 1, "kind": "x"}, prefix="order") == [
        ("order.kind", "choice"),
        ("order.nope", "unknown"),
    ]


def test_the_member_of_a_union_that_looked_deepest_speaks_for_it():
    assert refused({"model": ["a", 5]}) == [("model.1", "type")]


def test_complaints_are_bounded():
    assert len(refused({str(n): n for n in range(10_000)})) == 100


def test_a_validator_may_use_the_codes_of_the_contract():
    class Either(Body):
        a: int | None = None

        def model_post_init(self, context: object) -> None:
            raise wrong("exclusive", "a {or} b")

    with pytest.raises(ValidationFailed) as caught:
        parse(Either, {})
    assert [(e.field, e.code, e.message) for e in caught.value.errors] == [
        ("body", "exclusive", "a {or} b")
    ]


def test_values_are_read_into_one_unit():
    order = parse(
        Order,
        {
            "every": "10m",
            "price": 1.5,
            "at": "2026-11-21T12:00:00.5+02:00",
            "key": "0199AA00-0000-7000-8000-000000000000",
        },
    )
    assert order.every == 600
    assert order.price == 1_500_000
    assert order.at == datetime(2026, 11, 21, 10, 0, 0, 500_000, UTC)
    assert order.key == UUID("0199aa00-0000-7000-8000-000000000000")


@pytest.mark.parametrize(
    ("text", "seconds"), [(30, 30), ("30", 30), ("30s", 30), ("2h", 7200), ("1d", 86400), (0, 0)]
)
def test_durations(text, seconds):
    assert parse(Order, {"every": text}).every == seconds


def test_query_values():
    class Query(Body):
        model_config = {"extra": "ignore", "strict": False}
        status: CommaList = []
        terminal: Flag = False

    query = parse(Query, {"status": "queued, failed,", "terminal": "1", "other": "x"})
    assert (query.status, query.terminal) == (["queued", "failed"], True)
    with pytest.raises(ValidationFailed):
        parse(Query, {"terminal": "yes"})


def test_times_are_rendered_in_utc_with_milliseconds():
    assert render_time(datetime(2026, 11, 21, 10, 0, 0, 123_456, UTC)) == "2026-11-21T10:00:00.123Z"
    assert render_time(None) is None


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1000, 1, 1)))  # noqa: DTZ001
def test_what_we_render_we_read_again(moment):
    text = render_time(moment)
    assert parse(Order, {"at": text}).at == moment.replace(
        microsecond=moment.microsecond // 1000 * 1000
    )


DEEP = '{"a":' * 64 + "{}" + "}" * 64

MALFORMED = {
    "empty": b"",
    "text": b"hello",
    "unfinished": b'{"a": 1',
    "list": b"[1]",
    "null": b"null",
    "string": b'"a"',
    "NaN": b'{"a": NaN}',
    "Infinity": b'{"a": Infinity}',
    "minus Infinity": b'{"a": [-Infinity]}',
    "too large a float": b'{"a": 1e999}',
    "invalid UTF-8": b'{"a": "\xff"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "single quotes": b"{'a': 1}",
    "trailing comma": b'{"a": 1,}',
    "two objects": b'{"a": 1}{"b": 2}',
    "raw control character": b'{"a": "\x00"}',
    "one level too deep": DEEP.encode(),
    "very deep": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "very deep, unfinished": b"[" * 1_000_000,
    "a number of 5000 digits": b'{"a": ' + b"9" * 5000 + b"}",
}


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED.keys())
def test_bodies_that_are_no_json_object_are_malformed(raw):
    with pytest.raises(MalformedBody):
        strict_json.loads(raw)


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (b'{"a": "x\\u0000y"}', "a"),
        (b'{"a": [{"b": "\\u0000"}]}', "a.0.b"),
        (b'{"a": "\\ud800"}', "a"),
        (b'{"a": {"\\u0000": 1}}', "a"),
        (b'{"\\udfff": 1}', "body"),
    ],
)
def test_texts_that_postgresql_cannot_hold_are_refused_by_field(raw, field):
    with pytest.raises(ValidationFailed) as caught:
        strict_json.loads(raw)
    assert [(e.field, e.code) for e in caught.value.errors] == [(field, "format")]


def test_64_levels_and_every_other_text_pass():
    assert strict_json.loads(DEEP[5:-1].encode())
    assert strict_json.loads('{"a": "é\\u00e9😀\\ud83d\\ude00"}'.encode()) == {"a": "éé😀😀"}
    assert strict_json.loads(b"{" + b'"a":[' + b"[]," * 100 + b"[]]}")["a"][0] == []
