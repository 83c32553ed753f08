"""Chat of the qwen adapter: natively, and through an OpenAI-compatible door."""

import base64
from typing import Any

import pytest

from providers.base import Completed
from providers.testing import FakeInput, Recorder, make_call
from tests.emulators.base import (
    as_fixture,
    silence,
)
from tests.emulators.ollama import Ollama as Vendor
from tests.emulators.ollama import Says
from tests.emulators.openai import Script
from tests.integration.providers.qwen_calls import (
    COMPATIBLE,
    ask,
    part,
    provider,
    said,
)
from tests.integration.providers.rows import Row

vendor = as_fixture(Vendor)


def test_native_chat(vendor: Vendor) -> None:
    options = {
        "system": "Be brief.",
        "temperature": 0.7,
        "max_tokens": 512,
        "stop": "END",
        "seed": 1,
        "top_k": 40,
        "response_format": {"type": "json_object"},
    }
    config = {"num_ctx": 16384, "keep_alive": "10m"}
    answer = said(vendor, input=options, config=config)
    assert vendor.calls()[0].json == {
        "model": "qwen3:8b",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
        ],
        "stream": False,
        "options": {
            "num_ctx": 16384,
            "temperature": 0.7,
            "num_predict": 512,
            "stop": ["END"],
            "seed": 1,
            "top_k": 40,
        },
        "format": "json",
        "keep_alive": "10m",
    }
    assert answer == Completed(
        text="Hello, Alice.",
        message={
            "role": "assistant",
            "content": "Hello, Alice.",
            "refusal": None,
            "finish_reason": "stop",
        },
        usage={"prompt_tokens": 26, "completion_tokens": 282, "total_tokens": 308},
    )


def test_a_schema_and_a_random_seed(vendor: Vendor) -> None:
    schema = {"type": "object"}
    wish = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    said(vendor, input={"response_format": wish, "seed": -1})
    body = vendor.calls()[0].json
    assert (body["format"], body["options"]) == (schema, {"num_ctx": 8192})


def test_a_tenant_cannot_hold_the_memory(vendor: Vendor) -> None:
    said(vendor, input={"keep_alive": -1, "num_ctx": 1_000_000, "options": {"num_gpu": 0}})
    body = vendor.calls()[0].json
    assert "keep_alive" not in body
    assert body["options"] == {"num_ctx": 8192}


def test_pictures_and_tools_in_the_history(vendor: Vendor) -> None:
    uri = f"data:image/png;base64,{base64.b64encode(b'png').decode()}"
    messages = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": uri}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "see", "arguments": '{"x":1}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "a kite"},
    ]
    given = {"messages": messages, "images": ["asset:1"], "prompt": "And this?"}
    inputs = {"images.0": FakeInput(b"more")}
    provider.submit(make_call(provider, "qwen3:8b", given, inputs=inputs, base_url=vendor.url))
    assert vendor.calls()[0].json["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": "What is this?",
            "images": [base64.b64encode(b"png").decode()],
        },
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"function": {"name": "see", "arguments": {"x": 1}}}],
        },
        {"role": "tool", "content": "a kite", "tool_name": "see"},
        {
            "role": "user",
            "content": "And this?",
            "images": [base64.b64encode(b"more").decode()],
        },
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "{"}}]},
        {"role": "assistant", "tool_calls": [{}]},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}],
        },
        {"role": "user", "content": ["text"]},
        {"role": "user", "content": [{"type": "file", "file": {"file_data": "data:;base64,aGk="}}]},
    ],
)
def test_messages_that_make_no_sense(vendor: Vendor, message: dict[str, Any]) -> None:
    call = make_call(provider, "qwen3:8b", {"messages": [message]}, base_url=vendor.url)
    Row("", silence(), "bad_input").expect(provider, call)
    assert vendor.count() == 0


@pytest.mark.parametrize("stream", [False, True])
def test_tools(vendor: Vendor, stream: bool) -> None:
    called = [{"function": {"name": name, "arguments": {"at": "UTC"}}} for name in ("time", "date")]
    vendor.says = Says(text="", tool_calls=called)
    answer = said(vendor, stream=stream, input={"tools": [{"type": "function"}]})
    assert answer.message is not None
    assert answer.message["tool_calls"] == [
        {
            "id": f"call_{index}",
            "type": "function",
            "function": {"name": name, "arguments": '{"at": "UTC"}'},
        }
        for index, name in enumerate(("time", "date"))
    ]
    assert answer.message["finish_reason"] == "tool_calls"


THOUGHTS = [
    (Says(thinking="Hm.", text="Yes."), "Hm.", "Yes."),
    (Says(text="<think>\nHm.\n</think>\n\nYes."), "\nHm.\n", "Yes."),
    (Says(text=" \n<think>Hm.</think>Yes."), "Hm.", "Yes."),
    (Says(text="Hm.\n</think>\n\nYes."), "Hm.\n", "Yes."),
    (Says(thinking="Hm.", text="Write </think> at the end."), "Hm.", "Write </think> at the end."),
    (Says(text="Use <think> and </b>."), None, "Use <think> and </b>."),
    (Says(text="<think>Hm", done_reason="length"), "Hm", ""),
    (Says(text="<th"), None, "<th"),
]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("says", "reasoning", "text"), THOUGHTS)
def test_thinking_comes_apart(
    vendor: Vendor, says: Says, reasoning: str | None, text: str, stream: bool
) -> None:
    vendor.says = says
    answer = said(vendor, stream=stream)
    assert answer.message is not None
    assert answer.message.get("reasoning_content") == reasoning
    assert (answer.text, answer.message["content"]) == (text, text)
    assert answer.message["finish_reason"] == says.done_reason


def test_a_stream_is_told_as_it_comes(vendor: Vendor) -> None:
    vendor.says = Says(text="<think>思考</think>风筝", thinking="")
    emit = Recorder()
    said(vendor, stream=True, emit=emit)
    assert emit.text == "风筝"
    assert "".join(reasoning for _, reasoning, _ in emit.deltas) == "思考"


@pytest.mark.parametrize(
    ("given", "think"),
    [
        ({}, None),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "high"}, True),
        ({"thinking": False}, False),
        ({"think": "low"}, "low"),
    ],
)
def test_the_switch(vendor: Vendor, given: dict[str, Any], think: bool | str | None) -> None:
    said(vendor, input=given)
    assert vendor.calls()[0].json.get("think") == think


def test_gpt_oss_thinks_in_degrees(vendor: Vendor) -> None:
    vendor.models.append("gpt-oss:20b")
    vendor.thinkers.add("gpt-oss:20b")
    said(vendor, model="gpt-oss:20b", input={"reasoning_effort": "low"})
    assert vendor.calls()[0].json["think"] == "low"


def test_a_model_that_cannot_think_answers_without(vendor: Vendor) -> None:
    assert said(vendor, model="llama3", input={"think": True}).text == "Hello, Alice."
    assert ["think" in call.json for call in vendor.calls()] == [True, False]


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_a_load_is_no_answer(vendor: Vendor, reason: str) -> None:
    vendor.says = Says(text="", done_reason=reason)
    Row("", silence(), "transient", "no_output", retries=1).expect(provider, ask(vendor))


def test_old_servers_leave_words_out(vendor: Vendor) -> None:
    vendor.says = Says(lines=[part("Hm"), {"message": None, "done": True}])
    answer = said(vendor, stream=True)
    assert (answer.text, answer.usage["total_tokens"]) == ("Hm", 0)


@pytest.mark.parametrize("base", ["/v1", "/v1/", COMPATIBLE])
@pytest.mark.parametrize("stream", [False, True])
def test_the_compatible_door(vendor: Vendor, base: str, stream: bool) -> None:
    vendor.says_openai = Script(text="Yes.", reasoning="Hm.")
    answer = said(vendor, base=base, stream=stream, input={"enable_thinking": True})
    assert answer.message is not None
    assert (answer.text, answer.message["reasoning_content"]) == ("Yes.", "Hm.")
    (request,) = vendor.calls("POST", COMPATIBLE)
    assert request.json["enable_thinking"] is True


def test_thinking_within_the_text_of_the_compatible_door(vendor: Vendor) -> None:
    vendor.says_openai = Script(text="Hm.</think>Yes.")
    assert said(vendor, base="/v1").text == "Yes."
