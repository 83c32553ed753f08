"""The OpenAI adapter against a strict api.openai.com on loopback."""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest

from providers.adapters.openai import OpenAI
from providers.base import (
    Accepted,
    Call,
    Completed,
    ErrorKind,
    Health,
    Inventory,
    Output,
    ProviderError,
)
from providers.contract import accepted_call
from providers.testing import FakeInput, ProviderContract, Recorder, executor_at, make_call
from tests.emulators import openai
from tests.emulators.base import (
    Fault,
    Response,
    answered,
    as_fixture,
    cut_answer,
    delayed,
    drop_answer,
    drop_request,
    garbage,
    silence,
    sse,
)
from tests.emulators.openai import MP3, PNG, Script, form_of
from tests.emulators.openai import OpenAI as Vendor
from tests.integration.providers.rows import Row, table

CHAT, IMAGES, EDITS = "/v1/chat/completions", "/v1/images/generations", "/v1/images/edits"
vendor = as_fixture(Vendor)
provider = OpenAI()


def ask(vendor: Vendor, text: str = "Hi", model: str = "gpt-5", **more: Any) -> Call:
    given = {"prompt": text, **more.pop("input", {})}
    return make_call(provider, model, given, base_url=vendor.base, **more)


def draw(vendor: Vendor, model: str = "gpt-image-2", **more: Any) -> Call:
    given = {"prompt": "a kite", **more.pop("input", {})}
    return make_call(provider, model, given, base_url=vendor.base, **more)


def film(vendor: Vendor, **more: Any) -> Call:
    return make_call(provider, "sora-2", {"prompt": "a kite"}, base_url=vendor.base, **more)


def refused(status: int, *words: Any, **headers: str) -> Fault:
    return answered(status, openai.error(status, *words).body, **headers)


class TestImageContract(ProviderContract):
    provider = provider

    @pytest.fixture(autouse=True)
    def _vendor(self, vendor: Vendor) -> None:
        self.vendor = vendor

    def make(self, **more: Any) -> Call:
        return draw(self.vendor, **more)

    def creates(self) -> int:
        return self.vendor.count("POST", IMAGES)

    faults: ClassVar[Mapping[ErrorKind, Callable[[Any], None]]] = {
        kind: lambda self, fault=fault: self.vendor.next("POST", IMAGES, fault)
        for kind, fault in {
            "transient": refused(500, "Oops", "server_error"),
            "overloaded": refused(503, "Slow down", "server_error", "slow_down"),
            "rate_limited": refused(429, "Slow", "requests", "rate_limit_exceeded"),
            "quota_exhausted": refused(429, "No money", "insufficient_quota", "insufficient_quota"),
            "bad_credentials": refused(401, "No", "invalid_request_error", "invalid_api_key"),
            "not_available": refused(404, "No", "invalid_request_error", "model_not_found"),
            "bad_input": refused(400, "No", "invalid_request_error", "invalid_value"),
            "content_refused": refused(
                400, "Rejected", "image_generation_user_error", "moderation_blocked"
            ),
            "unknown_outcome": drop_answer(),
        }.items()
    }


class TestChatContract(ProviderContract):
    provider = provider
    paid = False

    @pytest.fixture(autouse=True)
    def _vendor(self, vendor: Vendor) -> None:
        self.vendor = vendor

    def make(self, **more: Any) -> Call:
        return ask(self.vendor, **more)

    def creates(self) -> int:
        return self.vendor.count("POST", CHAT)

    faults: ClassVar[Mapping[ErrorKind, Callable[[Any], None]]] = {
        "transient": lambda self: self.vendor.next("POST", CHAT, drop_answer())
    }


class TestVideoContract(ProviderContract):
    provider = provider

    @pytest.fixture(autouse=True)
    def _vendor(self, vendor: Vendor) -> None:
        self.vendor = vendor

    def make(self, **more: Any) -> Call:
        return film(self.vendor, **more)

    def creates(self) -> int:
        return self.vendor.count("POST", "/v1/videos")

    faults: ClassVar[Mapping[ErrorKind, Callable[[Any], None]]] = {
        "unknown_outcome": lambda self: self.vendor.next(
            "POST", "/v1/videos", refused(500, "Oops", "server_error")
        )
    }


# What is refused before any work began means the same for every call.
REFUSALS = [
    Row("moderation", refused(400, "Blocked", "x", "moderation_blocked"), "content_refused"),
    Row("policy", refused(400, "No", "x", "content_policy_violation"), "content_refused"),
    Row("azure filter", refused(400, "No", "x", "content_filter"), "content_refused"),
    Row("bad value", refused(400, "No", "invalid_request_error", "invalid_value"), "bad_input"),
    Row("no code", refused(400, "No", "invalid_request_error"), "bad_input"),
    Row("too long", refused(400, "No", "x", "context_length_exceeded"), "bad_input"),
    Row("too large", refused(413, "No"), "bad_input"),
    Row("unprocessable", refused(422, "No"), "bad_input"),
    Row(
        "bad key", refused(401, "No", "invalid_request_error", "invalid_api_key"), "bad_credentials"
    ),
    Row("401, no body", answered(401), "bad_credentials"),
    Row("country", refused(403, "No", "x", "unsupported_country_region"), "not_available"),
    Row("org not verified", refused(403, "No", "invalid_request_error"), "not_available"),
    Row("no model", refused(404, "No", "x", "model_not_found"), "not_available"),
    Row(
        "retired model", refused(400, "It does not exist", "x", "model_not_found"), "not_available"
    ),
    Row("wrong path", answered(404, "<html>"), "not_available"),
    Row("no money", refused(429, "No", "x", "insufficient_quota"), "quota_exhausted"),
    Row("no money, by type", refused(429, "No", "insufficient_quota"), "quota_exhausted"),
    Row("hard limit", refused(400, "No", "x", "billing_hard_limit_reached"), "quota_exhausted"),
    Row("402", answered(402), "quota_exhausted"),
    Row("conflict", refused(409, "Lock", "invalid_request_error"), "transient", retries=None),
    Row("slow down", refused(503, "No", "server_error", "slow_down"), "overloaded"),
    Row("503", refused(503, "No", "server_error"), "overloaded"),
    Row("529", answered(529), "overloaded"),
    Row("no download", refused(400, "No", "x", "invalid_image_url"), "transient", retries=1),
    Row(
        "limit in seconds",
        refused(429, "Slow", "requests", "rate_limit_exceeded", retry_after="20"),
        "rate_limited",
        retry_after=20.0,
    ),
    Row(
        "limit in fractions", refused(429, "x", retry_after="1.5"), "rate_limited", retry_after=1.5
    ),
    Row(
        "limit until a date that has passed",
        refused(429, "x", retry_after="Sat, 21 Nov 2020 07:28:00 GMT"),
        "rate_limited",
        retry_after=0.0,
    ),
    Row(
        "limit in milliseconds",
        refused(429, "x", retry_after_ms="1500", retry_after="2"),
        "rate_limited",
        retry_after=1.5,
    ),
    Row(
        "limit as duration",
        refused(429, "x", x_ratelimit_reset_requests="6m0s"),
        "rate_limited",
        retry_after=360.0,
    ),
    Row("limit without a word", answered(429), "rate_limited", retry_after=None),
    Row("limit, nonsense", refused(429, "x", retry_after="soon"), "rate_limited", retry_after=None),
]
# From here on it matters whether a second try could cost a second time.
PAID = [
    Row("500", refused(500, "Oops", "server_error"), "transient", retries=1),
    Row("500, no retry", refused(500, "x", x_should_retry="false"), "transient", retries=0),
    Row("500 of a proxy", answered(500, "<html>"), "unknown_outcome"),
    Row("502", answered(502, "<html>"), "unknown_outcome"),
    Row("504", answered(504), "unknown_outcome"),
    Row("request dropped", drop_request(), "unknown_outcome"),
    Row("answer dropped", drop_answer(), "unknown_outcome"),
    Row("answer cut", cut_answer(30), "unknown_outcome"),
    Row("garbage", garbage(), "unknown_outcome"),
    Row("web page", answered(200, "<html>log in</html>"), "unknown_outcome"),
    Row("NaN", answered(200, '{"data": [{"b64_json": NaN}]}'), "unknown_outcome"),
    Row("a list", answered(200, [1]), "unknown_outcome"),
    Row("no data", answered(200, {"created": 1}), "unknown_outcome"),
    Row("bad base64", answered(200, {"data": [{"b64_json": "?"}]}), "unknown_outcome"),
    Row("no picture", answered(200, {"data": []}), "transient", "no_output", retries=1),
    Row(
        "a refused picture",
        answered(200, {"data": [{"error": {"code": "content_policy_violation", "message": "No"}}]}),
        "content_refused",
    ),
]
FREE = [
    Row("500", refused(500, "Oops", "server_error"), "transient", retries=None),
    Row("502", answered(502, "<html>"), "transient"),
    Row("504", answered(504), "transient"),
    Row("request dropped", drop_request(), "transient"),
    Row("answer dropped", drop_answer(), "transient"),
    Row("answer cut", cut_answer(30), "transient", "bad_response"),
    Row("garbage", garbage(), "transient", "bad_response"),
    Row("web page", answered(200, "<html>log in</html>"), "transient", "bad_response"),
    Row("NaN", answered(200, '{"choices": NaN}'), "transient", "bad_response"),
    Row("no choices", answered(200, {"choices": []}), "transient", "bad_response"),
    Row("10 MB", answered(200, b'{"a":"' + b"x" * 10_000_000 + b'"}'), "transient", "bad_response"),
    Row("error as success", refused(200, "Blocked", "x", "content_filter"), "content_refused"),
]


@table(REFUSALS + PAID)
def test_failures_of_images(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", IMAGES, row.fault)
    row.expect(provider, draw(vendor))
    assert vendor.count() == 1


@table(REFUSALS + FREE)
def test_failures_of_chat(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", CHAT, row.fault)
    row.expect(provider, ask(vendor))
    assert vendor.count() == 1


@table([row for row in FREE if row.name in {"500", "answer cut", "answer dropped"}])
def test_failures_of_streams(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", CHAT, row.fault)
    row.expect(provider, ask(vendor, stream=True))


def test_silence_ends_at_the_deadline(vendor: Vendor) -> None:
    vendor.next("POST", CHAT, silence())
    Row("", silence(), "transient", "upstream_timeout").expect(provider, ask(vendor, timeout=0.2))
    vendor.next("POST", IMAGES, silence())
    Row("", silence(), "unknown_outcome").expect(provider, draw(vendor, timeout=0.2))


def test_nobody_there() -> None:
    Row("", silence(), "transient").expect(
        provider, make_call(provider, "gpt-image-2", {"prompt": "x"})
    )


def test_a_refusal_carries_the_vendors_words(vendor: Vendor) -> None:
    vendor.next("POST", IMAGES, refused(400, "safety_violations=[x]", "x", "moderation_blocked"))
    problem = Row("", silence(), "content_refused").expect(provider, draw(vendor))
    assert problem.message == problem.refusal == "safety_violations=[x]"


# Chat


def test_chat(vendor: Vendor) -> None:
    options = {"temperature": 0.5, "stop": ["END"], "presence_penalty": 0.1, "system": "Be brief."}
    answer = provider.submit(ask(vendor, input=options))
    (request,) = vendor.calls()
    assert request.json == {
        "model": "gpt-5",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "stream": False,
        "temperature": 0.5,
        "stop": ["END"],
        "presence_penalty": 0.1,
    }
    assert answer == Completed(
        text="Hello, Alice.",
        message={
            "role": "assistant",
            "content": "Hello, Alice.",
            "refusal": None,
            "finish_reason": "stop",
        },
        usage={"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13},
    )


def test_chat_with_history_and_a_picture(vendor: Vendor) -> None:
    picture = {"type": "image_url", "image_url": {"url": "asset:1", "detail": "low"}}
    messages = [
        {"role": "user", "content": "Who?"},
        {"role": "assistant", "content": "Me.", "reasoning_content": "hm", "finish_reason": "stop"},
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, picture]},
    ]
    inputs = {"messages.2.content.1.image_url.url": FakeInput(PNG)}
    call = make_call(provider, "gpt-5", {"messages": messages}, inputs=inputs, base_url=vendor.base)
    provider.submit(call)
    sent = vendor.calls()[0].json["messages"]
    assert sent[1] == {"role": "assistant", "content": "Me."}
    uri = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert sent[2]["content"][1]["image_url"] == {"url": uri, "detail": "low"}


def test_the_caller_cannot_swap_the_model_or_multiply_the_answer(vendor: Vendor) -> None:
    tricks = {"n": 8, "stream_options": {}, "model": "o3", "stream": True}
    provider.submit(ask(vendor, model="gpt-4o", input=tricks))
    assert vendor.calls()[0].json == {
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": False,
    }


@pytest.mark.parametrize(
    ("config", "field"),
    [({}, "max_tokens"), ({"max_tokens_field": "max_completion_tokens"}, "max_completion_tokens")],
)
def test_limit_of_tokens(vendor: Vendor, config: dict[str, Any], field: str) -> None:
    provider.submit(ask(vendor, model="gpt-4o", input={"max_tokens": 7}, config=config))
    assert vendor.calls()[0].json[field] == 7


def test_openai_itself_wants_the_newer_name() -> None:
    from providers.adapters.openai import limit_field

    executor = executor_at(provider, "https://api.openai.com/v1")
    assert limit_field(executor) == "max_completion_tokens"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_kept_apart(vendor: Vendor, stream: bool, name: str) -> None:
    vendor.says = Script(text="Yes.", reasoning="Let me see.", reasoning_field=name)
    call = ask(vendor, stream=stream)
    answer = provider.submit(call)
    assert isinstance(answer, Completed)
    assert answer.message
    assert (answer.text, answer.message["reasoning_content"]) == ("Yes.", "Let me see.")


TOOL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "time", "arguments": '{"at":"UTC"}'},
}


@pytest.mark.parametrize("stream", [False, True])
def test_tools(vendor: Vendor, stream: bool) -> None:
    vendor.says = Script(text=None, tool_calls=[TOOL], finish="tool_calls")
    tools = [{"type": "function", "function": {"name": "time", "parameters": {}}}]
    answer = provider.submit(ask(vendor, stream=stream, input={"tools": tools}))
    assert vendor.calls()[0].json["tools"] == tools
    assert isinstance(answer, Completed)
    assert answer.message
    assert answer.message["tool_calls"] == [TOOL]
    assert answer.message["finish_reason"] == "tool_calls"


def test_a_stream_is_told_as_it_comes(vendor: Vendor) -> None:
    emit = Recorder()
    answer = provider.submit(ask(vendor, stream=True, emit=emit))
    assert isinstance(answer, Completed)
    assert emit.text == answer.text == "Hello, Alice."
    assert len(emit.deltas) > 1
    assert answer.usage == {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    assert vendor.calls()[0].json["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "says",
    [Script(text="I will", finish="content_filter"), Script(text=None, refusal="I will not.")],
)
def test_soft_refusals(vendor: Vendor, says: Script, stream: bool) -> None:
    vendor.says = says
    problem = Row("", silence(), "content_refused").expect(provider, ask(vendor, stream=stream))
    assert problem.message == (says.refusal or "I will")


def _chunk(**delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}


BROKEN_STREAMS = [
    Row("no end", Fault(reply=sse(_chunk(content="a"), done=False)), "transient", "upstream_cut"),
    Row("nothing", Fault(reply=sse(done=False)), "transient", "upstream_cut"),
    Row(
        "error in it",
        Fault(reply=sse(_chunk(content="a"), openai.error(500, "x", "server_error").body)),
        "transient",
    ),
    Row(
        "limit in it",
        Fault(reply=sse(openai.error(429, "x", "requests", "rate_limit_exceeded").body)),
        "rate_limited",
    ),
    Row("no JSON", Fault(reply=sse("{")), "transient", "bad_response"),
    Row("NaN", Fault(reply=sse('{"choices": NaN}')), "transient", "bad_response"),
]


@table(BROKEN_STREAMS)
def test_streams_that_break(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", CHAT, row.fault)
    row.expect(provider, ask(vendor, stream=True))


def test_a_stream_in_odd_pieces(vendor: Vendor) -> None:
    """Comments, CRLF, characters split between two packets, an answer that ends without [DONE]."""
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    text = json.dumps(_chunk(content="风筝 飞"), ensure_ascii=False)
    raw = f": ping\r\n\r\ndata: {text}\r\n\r\ndata: {json.dumps(end)}\r\n\r\n".encode()
    bits = [raw[start : start + 3] for start in range(0, len(raw), 3)]
    vendor.next("POST", CHAT, Fault(reply=Response(body=iter(bits))))
    answer = provider.submit(ask(vendor, stream=True))
    assert isinstance(answer, Completed)
    assert answer.text == "风筝 飞"


def test_a_server_that_cannot_stream(vendor: Vendor) -> None:
    vendor.next("POST", CHAT, Fault(reply=Response(200, openai.completion("m", Script(text="Hm")))))
    answer = provider.submit(ask(vendor, stream=True))
    assert isinstance(answer, Completed)
    assert answer.text == "Hm"


def test_a_base_that_names_the_door(vendor: Vendor) -> None:
    call = make_call(provider, "gpt-5", {"prompt": "Hi"}, base_url=f"{vendor.url}{CHAT}")
    assert isinstance(provider.submit(call), Completed)


# Images


def test_images(vendor: Vendor) -> None:
    given = {"n": 2, "size": "512x768", "quality": "low", "format": "webp", "background": "opaque"}
    answer = provider.submit(draw(vendor, input=given))
    assert vendor.calls()[0].json == {
        "model": "gpt-image-2",
        "prompt": "a kite",
        "n": 2,
        "size": "512x768",
        "quality": "low",
        "background": "opaque",
        "output_format": "webp",
    }
    assert answer == Completed(
        [Output("image", data=PNG, content_type="image/webp")] * 2,
        {"prompt_tokens": 10, "completion_tokens": 1056, "total_tokens": 1066, "images": 2},
    )


def test_pictures_as_addresses_and_partly(vendor: Vendor) -> None:
    """A gateway with another model, which refuses one of two pictures."""
    vendor.pictures = [
        {"url": "https://cdn.example/1.png", "revised_prompt": "A kite."},
        {"url": None},
    ]
    given = {"width": 640, "height": 480}
    answer = provider.submit(draw(vendor, "dall-e-9", input=given))
    assert vendor.calls()[0].json["size"] == "640x480"
    assert isinstance(answer, Completed)
    url, meta = "https://cdn.example/1.png", {"revised_prompt": "A kite."}
    assert answer.outputs == [Output("image", url=url, meta=meta)]
    assert answer.usage["images"] == 1


def test_edits(vendor: Vendor) -> None:
    inputs = {
        "images.0": FakeInput(PNG),
        "images.1": FakeInput(b"jpg", "image/jpeg"),
        "mask": FakeInput(b"mask"),
    }
    given = {"images": ["asset:1", "asset:2"], "mask": "asset:3", "n": 1}
    sent: list[float] = []
    call = draw(vendor, input=given, inputs=inputs, task_type="image-to-image", sent=sent)
    assert isinstance(provider.submit(call), Completed)
    form = form_of(vendor.calls("POST", EDITS)[0])
    assert {name: [part.content for part in parts] for name, parts in form.items()} == {
        "model": [b"gpt-image-2"],
        "prompt": [b"a kite"],
        "n": [b"1"],
        "image[]": [PNG, b"jpg"],
        "mask": [b"mask"],
    }
    assert [part.content_type for part in form["image[]"]] == ["image/png", "image/jpeg"]
    assert len(sent) == 1


def test_partial_pictures(vendor: Vendor) -> None:
    emit = Recorder()
    answer = provider.submit(draw(vendor, stream=True, emit=emit))
    assert vendor.calls()[0].json["partial_images"] == 1
    assert emit.previews == [(PNG, "image/png")]
    assert isinstance(answer, Completed)
    assert [output.data for output in answer.outputs] == [PNG]


PARTIAL = {"type": "image_generation.partial_image", "b64_json": base64.b64encode(PNG).decode()}


@table(
    [
        Row("no end", Fault(reply=sse(PARTIAL, done=False)), "unknown_outcome"),
        Row("no JSON", Fault(reply=sse("{")), "unknown_outcome"),
        Row("cut", cut_answer(20), "unknown_outcome"),
        Row(
            "refused",
            Fault(reply=sse(openai.error(400, "x", "x", "moderation_blocked").body)),
            "content_refused",
        ),
    ]
)
def test_image_streams_that_break(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", IMAGES, row.fault)
    row.expect(provider, draw(vendor, stream=True))


def test_large_pictures(vendor: Vendor) -> None:
    large = base64.b64encode(bytes(12_000_000)).decode()
    vendor.pictures = [{"b64_json": large}]
    answer = provider.submit(draw(vendor))
    assert isinstance(answer, Completed)
    assert [len(output.data or b"") for output in answer.outputs] == [12_000_000]


# Speech, transcripts, embeddings


def test_speech(vendor: Vendor) -> None:
    given = {"prompt": "Good evening", "voice": "sage", "speed": 1.5, "instructions": "Whisper."}
    answer = provider.submit(make_call(provider, "gpt-4o-mini-tts", given, base_url=vendor.base))
    assert vendor.calls()[0].json == {
        "model": "gpt-4o-mini-tts",
        "input": "Good evening",
        "voice": "sage",
        "speed": 1.5,
        "instructions": "Whisper.",
        "response_format": "mp3",
    }
    output = Output("audio", data=MP3, content_type="audio/mpeg", filename="speech.mp3")
    assert answer == Completed([output], {"characters": 12})


@table(
    [
        Row("json", answered(200, {"hm": 1}), "unknown_outcome"),
        Row("empty", answered(200), "unknown_outcome"),
        Row("dropped", drop_answer(), "unknown_outcome"),
        Row("bad voice", refused(400, "No", "x", "invalid_value"), "bad_input"),
    ]
)
def test_failures_of_speech(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", "/v1/audio/speech", row.fault)
    row.expect(provider, make_call(provider, "tts-1", {"prompt": "Hi"}, base_url=vendor.base))


def hear(vendor: Vendor, model: str) -> Call:
    audio = {"audio": FakeInput(b"RIFF", "audio/wav")}
    given = {"audio": "asset:1", "language": "en", "temperature": 0.0}
    return make_call(provider, model, given, inputs=audio, base_url=vendor.base)


def test_transcripts_with_segments(vendor: Vendor) -> None:
    answer = provider.submit(hear(vendor, "whisper-1"))
    segments = [{"start": 0.0, "end": 1.5, "text": "hello"}]
    data = {"language": "english", "duration": 1.5, "segments": segments}
    assert answer == Completed(text="hello", data=data, usage={"seconds": 1.5})
    form = form_of(vendor.calls()[0])
    assert (form["language"][0].text, form["file"][0].filename) == ("en", "audio.wav")


def test_transcripts_without_segments(vendor: Vendor) -> None:
    answer = provider.submit(hear(vendor, "gpt-4o-transcribe"))
    tokens = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert answer == Completed(text="hello", usage=tokens)


def test_embeddings(vendor: Vendor) -> None:
    given = {"texts": ["a", "bb"], "dimensions": 2}
    answer = provider.submit(
        make_call(provider, "text-embedding-3-small", given, base_url=vendor.base)
    )
    assert vendor.calls()[0].json["input"] == ["a", "bb"]
    vectors = {"embeddings": [[1.0, 1.0], [2.0, 1.0]]}
    assert answer == Completed(data=vectors, usage={"prompt_tokens": 3, "total_tokens": 3})


@table(
    [
        Row("too few", answered(200, {"data": []}), "transient", "bad_response"),
        Row("dropped", drop_answer(), "transient"),
    ]
)
def test_failures_of_embeddings(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", "/v1/embeddings", row.fault)
    call = make_call(provider, "text-embedding-3-small", {"prompt": "a"}, base_url=vendor.base)
    row.expect(provider, call)


def test_what_it_does_not_do(vendor: Vendor) -> None:
    call = draw(vendor, task_type="video-to-video")
    Row("", silence(), "not_available").expect(provider, call)


# Videos


def started(vendor: Vendor, **more: Any) -> Call:
    call = film(vendor, **more)
    accepted = provider.submit(call)
    assert isinstance(accepted, Accepted)
    assert accepted.poll_after == 0.05
    return accepted_call(call, accepted)


def test_a_video_is_polled_to_its_end(vendor: Vendor) -> None:
    call = started(vendor)
    (first,) = provider.poll([call])
    assert (first.state, first.progress, first.poll_after) == ("working", 0.5, 0.05)
    (second,) = provider.poll([call])
    url = f"{vendor.base}/videos/{call.external_id}/content"
    output = Output("video", url=url, content_type="video/mp4")
    assert second.state == Completed([output], {"seconds": 4.0})


def test_a_video_from_a_picture(vendor: Vendor) -> None:
    given = {"prompt": "a kite", "images": ["asset:1"], "duration": 8, "size": "1280x720"}
    inputs = {"images.0": FakeInput(PNG)}
    call = make_call(provider, "sora-2", given, inputs=inputs, base_url=vendor.base)
    assert isinstance(provider.submit(call), Accepted)
    form = form_of(vendor.calls()[0])
    assert (form["seconds"][0].text, form["input_reference"][0].content) == ("8", PNG)


FAILED = [
    ({"code": "image_content_policy_violation", "message": "No"}, "content_refused", None),
    ({"code": "invalid_prompt", "message": "No"}, "bad_input", None),
    ({"code": "rate_limit_exceeded", "message": "No"}, "rate_limited", None),
    ({"code": "server_error", "message": "No"}, "transient", None),
    ({"code": "cosmic_rays", "message": "No"}, "transient", 0),
]


@pytest.mark.parametrize(
    ("error", "kind", "retries"), FAILED, ids=[row[0]["code"] for row in FAILED]
)
def test_a_video_that_fails(
    vendor: Vendor, error: dict[str, str], kind: ErrorKind, retries: int | None
) -> None:
    vendor.polls_until_done, vendor.video_error = 1, error
    (update,) = provider.poll([started(vendor)])
    assert isinstance(update.state, ProviderError)
    assert (update.state.kind, update.state.retries) == (kind, retries)


@pytest.mark.parametrize(
    "fault", [answered(500), answered(429), drop_answer(), garbage(), answered(200, "{")]
)
def test_a_poll_that_fails_says_nothing(vendor: Vendor, fault: Fault) -> None:
    call = started(vendor)
    vendor.next("GET", f"/v1/videos/{call.external_id}", fault)
    assert list(provider.poll([call])) == []


def test_a_video_that_vanished(vendor: Vendor) -> None:
    call = started(vendor)
    vendor.videos.clear()
    (update,) = provider.poll([call])
    assert isinstance(update.state, ProviderError)
    assert (update.state.kind, update.state.code) == ("lost", "result_lost")


@pytest.mark.parametrize("fault", [drop_answer(), cut_answer(5), garbage()])
def test_a_lost_create_is_found(vendor: Vendor, fault: Fault) -> None:
    vendor.next("POST", "/v1/videos", fault)
    call = film(vendor)
    Row("", silence(), "unknown_outcome").expect(provider, call)
    assert provider.find(call) == Accepted("video_1")


def test_a_lost_create_is_not_guessed(vendor: Vendor) -> None:
    call = film(vendor)
    assert provider.find(call) is None
    vendor.add_video("another kite")
    assert provider.find(call) is None
    old = vendor.add_video("a kite")
    vendor.videos[old["id"]]["created_at"] = 1_600_000_000
    assert provider.find(call) is None
    vendor.add_video("a kite")
    vendor.add_video("a kite")
    assert provider.find(call) is None
    assert provider.find(draw(vendor)) is None


@table(
    [
        Row("500", refused(500, "Oops", "server_error"), "unknown_outcome"),
        Row("502", answered(502), "unknown_outcome"),
        Row("no id", answered(200, {"status": "queued"}), "unknown_outcome"),
        Row("refused", refused(400, "No", "x", "moderation_blocked"), "content_refused"),
    ]
)
def test_failures_of_video_creates(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", "/v1/videos", row.fault)
    row.expect(provider, film(vendor))


def test_cancel(vendor: Vendor) -> None:
    call = started(vendor)
    assert provider.cancel(call) == "canceled"
    assert vendor.videos == {}
    assert provider.cancel(call) == "unsupported"
    vendor.polls_until_done = 1
    done = started(vendor)
    assert provider.cancel(done) == "too_late"
    assert vendor.count("DELETE") == 1


# The executor


def test_probe_and_inventory(vendor: Vendor) -> None:
    executor = executor_at(provider, vendor.base)
    assert provider.probe(executor) == Health("healthy", "ok")
    assert provider.inventory(executor) == Inventory(models=vendor.models)
    wrong = executor_at(provider, vendor.base, credential="sk-wrong-0123456789")
    assert provider.probe(wrong) == Health(
        "down", "expired", "The provider refused the credential."
    )


def test_a_server_without_a_list_of_models(vendor: Vendor) -> None:
    vendor.next("GET", "/v1/models", answered(404), answered(404), answered(503))
    executor = executor_at(provider, vendor.base)
    assert provider.probe(executor).status == "healthy"
    assert provider.inventory(executor) == Inventory()
    with pytest.raises(ProviderError):
        provider.probe(executor)


def test_slow_answers_are_waited_for(vendor: Vendor) -> None:
    vendor.next("POST", CHAT, delayed(0.1))
    assert isinstance(provider.submit(ask(vendor)), Completed)
