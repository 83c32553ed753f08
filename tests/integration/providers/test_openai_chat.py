"""Chat of the OpenAI adapter: what goes out, what comes back, how streams break."""

import base64
import json
from typing import Any

import pytest

from providers.base import (
    Completed,
)
from providers.testing import FakeInput, Recorder, executor_at, make_call
from tests.emulators import openai
from tests.emulators.base import (
    Fault,
    Response,
    as_fixture,
    silence,
    sse,
)
from tests.emulators.openai import PNG, Script
from tests.emulators.openai import OpenAI as Vendor
from tests.integration.providers.openai_calls import (
    CHAT,
    ask,
    provider,
)
from tests.integration.providers.rows import Row, table

vendor = as_fixture(Vendor)


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
    inputs = {"messages.2.content.1.image_url": FakeInput(PNG)}
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


@pytest.mark.parametrize("stream", [False, True])
def test_patience_with_a_chat_is_the_operators(vendor: Vendor, stream: bool) -> None:
    """The call's own deadline is far away: this is an error of the vendor, and another try may do better."""
    vendor.next("POST", CHAT, silence())
    call = ask(vendor, stream=stream, config={"chat_timeout": 0.2})
    Row("", silence(), "transient", "upstream_timeout").expect(provider, call)
