"""Chat of the Gemini adapter: contents out, candidates back, and the many ways to say no."""

import base64
from typing import Any

import pytest

from providers.base import Call, Completed, ErrorKind, Output
from providers.testing import FakeInput, Recorder, make_call
from tests.emulators.base import Fault, answered, as_fixture, cut_answer, silence
from tests.emulators.gemini import Gemini as Vendor
from tests.emulators.gemini import Says, error, picture, stream
from tests.emulators.openai import PNG, Script
from tests.emulators.openai import OpenAI as Compatible
from tests.integration.providers.gemini_calls import CHAT, STREAM, ask, provider
from tests.integration.providers.rows import Row, table

vendor = as_fixture(Vendor)
compatible = as_fixture(Compatible)


def said(call: Call) -> Completed:
    answer = provider.submit(call)
    assert isinstance(answer, Completed)
    return answer


def test_chat(vendor: Vendor) -> None:
    options = {
        "system": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "max_tokens": 100,
        "stop": "END",
        "seed": 7,
        "reasoning_effort": "low",
        "safetySettings": [{"category": "X", "threshold": "OFF"}],
        "response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "object"}}},
    }
    answer = said(ask(vendor, input=options))
    assert vendor.calls()[0].json == {
        "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "safetySettings": [{"category": "X", "threshold": "OFF"}],
        "generationConfig": {
            "temperature": 0.5,
            "topP": 0.9,
            "topK": 40,
            "maxOutputTokens": 100,
            "stopSequences": ["END"],
            "seed": 7,
            "thinkingConfig": {"thinkingLevel": "LOW"},
            "responseMimeType": "application/json",
            "responseJsonSchema": {"type": "object"},
        },
    }
    assert answer == Completed(
        text="Hello, Alice.",
        message={
            "role": "assistant",
            "content": "Hello, Alice.",
            "refusal": None,
            "finish_reason": "stop",
        },
        usage={"prompt_tokens": 12, "completion_tokens": 43, "total_tokens": 55},
    )


def test_files_and_sounds_in_a_conversation(vendor: Vendor) -> None:
    content = [
        {"type": "text", "text": "What do they say?"},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "asset:1"}},
        {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "mp3"}},
    ]
    given = {"messages": [{"role": "user", "content": content}]}
    paper = FakeInput(b"%PDF", "application/pdf")
    place = "messages.0.content.1.file.file_data"
    call = make_call(
        provider, "gemini-2.5-flash", given, base_url=vendor.base, inputs={place: paper}
    )
    provider.submit(call)
    [sent] = vendor.calls("POST", CHAT)
    assert sent.json["contents"][0]["parts"] == [
        {"text": "What do they say?"},
        {"inlineData": {"mimeType": "application/pdf", "data": "JVBERg=="}},
        {"inlineData": {"mimeType": "audio/mp3", "data": "aGk="}},
    ]


@pytest.mark.parametrize(
    ("given", "config"),
    [
        ({"seed": -1}, None),
        ({"reasoning_effort": "none"}, {"thinkingConfig": {"thinkingBudget": 0}}),
        ({"thinkingConfig": {"thinkingBudget": -1}}, {"thinkingConfig": {"thinkingBudget": -1}}),
        ({"response_format": {"type": "json_object"}}, {"responseMimeType": "application/json"}),
        ({"response_format": {"type": "text"}}, None),
    ],
)
def test_options(vendor: Vendor, given: dict[str, Any], config: dict[str, Any] | None) -> None:
    said(ask(vendor, input=given))
    assert vendor.calls()[0].json.get("generationConfig") == config


CALLED = {
    "id": "call_0",
    "type": "function",
    "function": {"name": "time", "arguments": '{"at": "UTC"}'},
    "extra_content": {"google": {"thought_signature": "c2ln"}},
}


def test_a_conversation_with_pictures_and_tools(vendor: Vendor) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What time is it?"},
        {"role": "assistant", "content": None, "tool_calls": [CALLED]},
        {"role": "tool", "tool_call_id": "call_0", "content": "12:00"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "And here?"},
                {"type": "image_url", "image_url": {"url": "asset:1"}},
                {"type": "image_url", "image_url": {"url": "gs://bucket/clock.png"}},
            ],
        },
    ]
    declared = {"name": "time", "description": "Tells it", "parameters": {"type": "object"}}
    given = {
        "messages": messages,
        "tools": [{"type": "function", "function": declared}],
        "tool_choice": {"type": "function", "function": {"name": "time"}},
    }
    inputs = {"messages.4.content.1.image_url": FakeInput(b"png")}
    said(make_call(provider, "gemini-2.5-flash", given, inputs=inputs, base_url=vendor.base))
    body = vendor.calls()[0].json
    called = {"name": "time", "args": {"at": "UTC"}}
    inline = {"mimeType": "image/png", "data": base64.b64encode(b"png").decode()}
    assert body["contents"] == [
        {"role": "user", "parts": [{"text": "What time is it?"}]},
        {"role": "model", "parts": [{"functionCall": called, "thoughtSignature": "c2ln"}]},
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "time", "response": {"result": "12:00"}}},
                {"text": "And here?"},
                {"inlineData": inline},
                {"fileData": {"fileUri": "gs://bucket/clock.png"}},
            ],
        },
    ]
    schema = {"name": "time", "description": "Tells it", "parametersJsonSchema": {"type": "object"}}
    assert body["tools"] == [{"functionDeclarations": [schema]}]
    choice = {"mode": "ANY", "allowedFunctionNames": ["time"]}
    assert body["toolConfig"] == {"functionCallingConfig": choice}


@pytest.mark.parametrize(
    ("wish", "mode"), [("auto", "AUTO"), ("none", "NONE"), ("required", "ANY")]
)
def test_words_for_the_choice_of_tools(vendor: Vendor, wish: str, mode: str) -> None:
    tools = [{"type": "function", "function": {"name": "time"}}]
    said(ask(vendor, input={"tools": tools, "tool_choice": wish}))
    assert vendor.calls()[0].json["toolConfig"] == {"functionCallingConfig": {"mode": mode}}


@pytest.mark.parametrize(
    "given",
    [
        {"messages": [{"role": "assistant", "tool_calls": [{}]}]},
        {"messages": [{"role": "user", "content": ["text"]}]},
        {"messages": [{"role": "user", "content": "x"}], "tools": [{}]},
    ],
)
def test_messages_that_make_no_sense(vendor: Vendor, given: dict[str, Any]) -> None:
    call = make_call(provider, "gemini-2.5-flash", given, base_url=vendor.base)
    Row("", silence(), "bad_input").expect(provider, call)
    assert vendor.count() == 0


@pytest.mark.parametrize("streamed", [False, True])
def test_thoughts_pictures_and_tools_in_the_answer(vendor: Vendor, streamed: bool) -> None:
    call = {"functionCall": {"name": "time", "args": {"at": "UTC"}}, "thoughtSignature": "c2ln"}
    vendor.says = Says(
        [
            {"text": "Let me see.", "thought": True},
            {"text": "风筝 here"},
            {"inlineData": {"mimeType": "image/png", "data": "aGk="}, "thought": True},
            picture(),
            call,
        ]
    )
    emit = Recorder()
    answer = said(ask(vendor, stream=streamed, emit=emit))
    assert answer.message == {
        "role": "assistant",
        "content": "风筝 here",
        "refusal": None,
        "reasoning_content": "Let me see.",
        "tool_calls": [CALLED],
        "finish_reason": "tool_calls",
    }
    assert answer.outputs == [Output("image", data=PNG, content_type="image/png")]
    assert answer.usage["images"] == 1
    if streamed:
        assert emit.text == "风筝 here"
        assert emit.deltas[0] == ("", "Let ", None)
        assert emit.deltas[-1] == ("", "", [{"index": 0, **CALLED}])


FINISHES: list[tuple[str, ErrorKind | None, str]] = [
    ("STOP", None, "stop"),
    ("MAX_TOKENS", None, "length"),
    ("CONTINUATION", None, "length"),
    *(
        (word, "content_refused", "content_refused")
        for word in (
            *("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "IMAGE_SAFETY", "MODEL_ARMOR"),
            *("IMAGE_PROHIBITED_CONTENT", "ESCALATION", "RECITATION", "IMAGE_RECITATION"),
        )
    ),
    *(
        (word, "transient", "no_output")
        for word in (
            *("IMAGE_OTHER", "NO_IMAGE", "OTHER", "LANGUAGE", "MALFORMED_FUNCTION_CALL"),
            *("UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MALFORMED_RESPONSE", "A_NEW_ONE"),
        )
    ),
    ("MISSING_THOUGHT_SIGNATURE", "bad_input", "bad_input"),
    ("PUP_LIMITED_DISABLED", "bad_credentials", "bad_credentials"),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("finish", "kind", "code"), FINISHES)
def test_reasons_to_finish(
    vendor: Vendor, finish: str, kind: ErrorKind | None, code: str, streamed: bool
) -> None:
    vendor.says = Says([{"text": "Well"}], finish)
    call = ask(vendor, stream=streamed)
    if kind is None:
        answer = said(call)
        assert answer.message
        assert answer.message["finish_reason"] == code
    else:
        retries = 1 if code == "no_output" else None
        Row("", silence(), kind, code, retries=retries).expect(provider, call)


REFUSALS = [
    (Says(blocked="SAFETY", block_message="Not this."), "Not this."),
    (Says(blocked="OTHER"), "The provider refused this content."),
    (Says(None, "SAFETY"), "The provider refused this content."),
    (Says(None, "IMAGE_SAFETY", "Try another."), "Try another."),
    (Says([{"text": "I can start"}], "SAFETY"), "The provider refused this content."),
    (Says([{"text": "Sorry, i CANNOT create images."}]), "Sorry, i CANNOT create images."),
    (Says([{"text": "抱歉,我无法创建图片。"}]), "抱歉,我无法创建图片。"),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("says", "words"), REFUSALS)
def test_refusals_carry_their_words(vendor: Vendor, says: Says, words: str, streamed: bool) -> None:
    vendor.says = says
    problem = Row("", silence(), "content_refused").expect(provider, ask(vendor, stream=streamed))
    assert problem.message == problem.refusal == words


def test_the_phrases_are_the_operators(vendor: Vendor) -> None:
    vendor.says = Says([{"text": "Ask me nicely first."}])
    assert said(ask(vendor)).text == "Ask me nicely first."
    mine = ask(vendor, config={"refusal_phrases": ["ask me nicely"]})
    Row("", silence(), "content_refused").expect(provider, mine)
    vendor.says = Says([{"text": "I cannot create images."}])
    assert said(ask(vendor, config={"refusal_phrases": []})).text


def test_thinking_may_use_up_the_limit(vendor: Vendor) -> None:
    vendor.says = Says(None, "MAX_TOKENS")
    answer = said(ask(vendor))
    assert answer.message
    assert (answer.text, answer.message["finish_reason"]) == ("", "length")


def test_a_prompt_that_is_blocked_is_no_cut(vendor: Vendor) -> None:
    vendor.next("POST", CHAT, answered(200, {"promptFeedback": {"blockReason": "JAILBREAK"}}))
    Row("", silence(), "content_refused").expect(provider, ask(vendor))


def _chunk(text: str) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": [{"text": text}]}}]}


BROKEN = [
    Row("no end", Fault(reply=stream(_chunk("a"))), "transient", "upstream_cut"),
    Row("nothing", Fault(reply=stream()), "transient", "upstream_cut"),
    Row("cut", cut_answer(40), "transient", "bad_response"),
    Row("no JSON", Fault(reply=stream(head="data: {\r\n\r\n")), "transient", "bad_response"),
    Row(
        "full",
        Fault(reply=stream(_chunk("a"), dict(error(503, "UNAVAILABLE").body))),
        "overloaded",
    ),
    Row("unknown", Fault(reply=stream({"error": {"message": "?"}})), "transient"),
]


@table(BROKEN)
def test_streams_that_break(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", STREAM, row.fault)
    row.expect(provider, ask(vendor, stream=True))


def test_an_answer_without_a_reason(vendor: Vendor) -> None:
    vendor.next("POST", CHAT, answered(200, _chunk("Hm")))
    assert said(ask(vendor)).text == "Hm"


@pytest.mark.parametrize("base", ["/v1", "/v1/chat/completions"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_compatible_server(compatible: Compatible, base: str, streamed: bool) -> None:
    call = make_call(
        provider,
        "gemini-2.5-flash",
        {"prompt": "Hi"},
        base_url=compatible.url + base,
        stream=streamed,
    )
    assert said(call).text == "Hello, Alice."
    compatible.says = Script(text="I cannot create images of people.")
    problem = Row("", silence(), "content_refused").expect(provider, call)
    assert problem.refusal == "I cannot create images of people."
