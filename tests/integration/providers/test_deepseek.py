"""The DeepSeek adapter against a strict api.deepseek.com on loopback."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from providers.adapters.deepseek import DeepSeek, base_of
from providers.base import Call, Completed, Health, Inventory, ProviderError
from providers.testing import Recorder, executor_at, make_call
from tests.emulators import deepseek
from tests.emulators.base import (
    Fault,
    Response,
    answered,
    as_fixture,
    cut_answer,
    drop_answer,
    drop_request,
    garbage,
    silence,
    sse,
)
from tests.emulators.deepseek import DeepSeek as Vendor
from tests.emulators.openai import Script
from tests.integration.providers.rows import Row, on, table
from tests.integration.providers.vendor_contract import VendorContract

CHAT = "/v1/chat/completions"
vendor = as_fixture(Vendor)
provider = DeepSeek()


def ask(vendor: Vendor, text: str = "Hi", **more: Any) -> Call:
    given = {"prompt": text, **more.pop("input", {})}
    return make_call(provider, "deepseek-v4-flash", given, base_url=vendor.url, **more)


def talk(vendor: Vendor, *messages: dict[str, Any], **more: Any) -> Call:
    given = {"messages": list(messages)}
    return make_call(provider, "deepseek-v4-flash", given, base_url=vendor.url, **more)


def refused(status: int, message: str, **headers: str) -> Fault:
    return answered(status, deepseek.error(status, message).body, **headers)


class TestContract(VendorContract):
    provider = provider
    paid = False
    path = CHAT
    wanted = staticmethod(ask)

    faults = on(
        "POST",
        CHAT,
        {
            "transient": refused(500, "Server Error"),
            "overloaded": refused(503, "Overloaded"),
            "rate_limited": refused(429, "Too many"),
            "quota_exhausted": refused(402, "Insufficient Balance"),
            "bad_credentials": refused(401, "Authentication Fails"),
            "not_available": refused(400, "Model Not Exist"),
            "bad_input": refused(422, "Invalid"),
            "content_refused": refused(400, "Content Exists Risk"),
        },
    )


def chunk(finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


ROWS = [
    Row("format", refused(400, "Invalid format"), "bad_input"),
    Row("too long", refused(400, "This model's maximum context length is 1M"), "bad_input"),
    Row("risk", refused(400, "Content Exists Risk"), "content_refused"),
    Row("retired model", refused(400, "Model Not Exist"), "not_available"),
    Row("key", refused(401, "Authentication Fails"), "bad_credentials"),
    Row("money", refused(402, "Insufficient Balance"), "quota_exhausted"),
    Row("path", refused(404, "Not Found"), "not_available"),
    Row("parameter", refused(422, "Failed to deserialize"), "bad_input"),
    Row("concurrency", refused(429, "Slow"), "rate_limited", retry_after=None),
    Row("told to wait", refused(429, "Slow", retry_after="3"), "rate_limited", retry_after=3.0),
    Row("500", refused(500, "Server Error"), "transient", retries=None),
    Row("502", answered(502, "<html>"), "transient"),
    Row("503", refused(503, "Overloaded"), "overloaded"),
    Row("request dropped", drop_request(), "transient"),
    Row("answer dropped", drop_answer(), "transient"),
    Row("answer cut", cut_answer(40), "transient", "bad_response"),
    Row("garbage", garbage(), "transient", "bad_response"),
    Row("NaN", answered(200, '\n\n{"choices": NaN}'), "transient", "bad_response"),
    Row("10 MB", answered(200, b"\n" * 10_000_001), "transient", "bad_response"),
    Row("error as success", refused(200, "Internal"), "transient"),
]
STREAMS = [
    Row("no end", Fault(reply=sse(chunk(content="a"), done=False)), "transient", "upstream_cut"),
    Row("error", Fault(reply=sse(chunk(content="a"), deepseek.error(500, "x").body)), "transient"),
    Row(
        "money in it",
        Fault(reply=sse(deepseek.error(402, "Insufficient Balance").body)),
        "quota_exhausted",
    ),
    Row(
        "moderated",
        Fault(reply=sse(chunk(content="a"), chunk("content_filter"))),
        "content_refused",
    ),
    Row("full", Fault(reply=sse(chunk("insufficient_system_resource"))), "overloaded"),
]


@table(ROWS)
def test_failures(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", CHAT, row.fault)
    row.expect(provider, ask(vendor))
    assert vendor.count() == 1


@table(STREAMS)
def test_failures_of_streams(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", CHAT, row.fault)
    row.expect(provider, ask(vendor, stream=True))


@pytest.mark.parametrize("stream", [False, True])
def test_it_stopped_for_want_of_resources(vendor: Vendor, stream: bool) -> None:
    vendor.says = replace(vendor.says, finish="insufficient_system_resource")
    Row("", silence(), "overloaded").expect(provider, ask(vendor, stream=stream))


def test_keep_alives_do_not_hold_the_deadline_open(vendor: Vendor) -> None:
    def kept_alive() -> Iterator[bytes]:
        while not vendor.closing.wait(0.01):
            yield b": keep-alive\n\n"

    vendor.next("POST", CHAT, Fault(reply=Response(body=kept_alive())))
    call = ask(vendor, stream=True, timeout=0.2)
    Row("", silence(), "transient", "upstream_timeout").expect(provider, call)


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_comes_apart(vendor: Vendor, stream: bool) -> None:
    emit = Recorder()
    answer = provider.submit(ask(vendor, stream=stream, emit=emit))
    assert answer == Completed(
        text="Answer",
        message={
            "role": "assistant",
            "content": "Answer",
            "refusal": None,
            "reasoning_content": "Let me see.",
            "finish_reason": "stop",
        },
        usage={"prompt_tokens": 100, "completion_tokens": 60, "total_tokens": 160},
    )
    assert emit.text == ("Answer" if stream else "")


SWITCHES = [
    ({}, {}, "Let me see."),
    ({"thinking": True}, {"thinking": {"type": "enabled"}}, "Let me see."),
    ({"thinking": False}, {"thinking": {"type": "disabled"}}, None),
    ({"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}, None),
    ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, None),
    ({"reasoning_effort": "max"}, {"reasoning_effort": "max"}, "Let me see."),
]


@pytest.mark.parametrize(("given", "sent", "reasoning"), SWITCHES)
def test_the_switch(
    vendor: Vendor, given: dict[str, Any], sent: dict[str, Any], reasoning: str | None
) -> None:
    answer = provider.submit(ask(vendor, input=given))
    body = vendor.calls()[0].json
    assert {name: body[name] for name in body if name in {"thinking", "reasoning_effort"}} == sent
    assert answer.message
    assert answer.message.get("reasoning_content") == reasoning


TOOL = {"id": "call_1", "type": "function", "function": {"name": "time", "arguments": "{}"}}


def test_reasoning_goes_back_with_tool_calls_only(vendor: Vendor) -> None:
    provider.submit(
        talk(
            vendor,
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello", "reasoning_content": "A greeting."},
            {"role": "user", "content": "What time is it?"},
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": "Look.",
                "tool_calls": [TOOL],
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "12:00"},
        )
    )
    sent = vendor.calls()[0].json["messages"]
    assert sent[0] == {"role": "system", "content": "Be brief."}
    assert sent[2] == {"role": "assistant", "content": "Hello"}
    assert sent[4]["reasoning_content"] == "Look."


def test_the_reasoning_of_a_tool_call_is_needed(vendor: Vendor) -> None:
    call = talk(vendor, {"role": "assistant", "content": "", "tool_calls": [TOOL]})
    Row("", silence(), "bad_input").expect(provider, call)


def test_it_sees_no_pictures(vendor: Vendor) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    call = talk(vendor, {"role": "user", "content": [picture]})
    Row("", silence(), "bad_input").expect(provider, call)


JSON = {"response_format": {"type": "json_object"}}


def test_an_empty_object_is_asked_for_once_more(vendor: Vendor) -> None:
    vendor.says = Script(text="")
    call = ask(vendor, "Answer in json", input=JSON)
    Row("", silence(), "transient", "no_output", retries=1).expect(provider, call)


def test_thinking_may_use_up_the_limit(vendor: Vendor) -> None:
    vendor.says = Script(text="", reasoning="Hm", finish="length")
    answer = provider.submit(ask(vendor, "Answer in json", input=JSON | {"max_tokens": 3}))
    assert answer.message
    assert (answer.text, answer.message["finish_reason"]) == ("", "length")
    assert vendor.calls()[0].json["max_tokens"] == 3


def test_only_chat(vendor: Vendor) -> None:
    Row("", silence(), "not_available").expect(provider, ask(vendor, task_type="text-to-image"))


@pytest.mark.parametrize(
    ("written", "base"),
    [
        ("https://api.deepseek.com", "https://api.deepseek.com/v1"),
        ("https://api.deepseek.com/", "https://api.deepseek.com/v1"),
        ("https://api.deepseek.com/v1", "https://api.deepseek.com/v1"),
        ("https://api.deepseek.com/beta", "https://api.deepseek.com/beta"),
        ("http://gpu:8000/v1/chat/completions", "http://gpu:8000/v1"),
    ],
)
def test_bases(written: str, base: str) -> None:
    assert base_of(executor_at(provider, written)) == base


def test_probe_looks_at_the_balance(vendor: Vendor) -> None:
    executor = executor_at(provider, vendor.url)
    assert provider.probe(executor) == Health("healthy", "ok")
    vendor.available = False
    with pytest.raises(ProviderError) as caught:
        provider.probe(executor)
    assert caught.value.kind == "quota_exhausted"
    wrong = executor_at(provider, vendor.url, credential="sk-wrong-0123456789")
    assert provider.probe(wrong) == Health(
        "down", "expired", "The provider refused the credential."
    )


def test_a_host_of_its_models(vendor: Vendor) -> None:
    """Somebody else's server has no balance, but a list of models."""
    vendor.next("GET", "/user/balance", answered(404))
    executor = executor_at(provider, f"{vendor.url}/v1")
    assert provider.probe(executor) == Health("healthy", "ok")
    assert provider.inventory(executor) == Inventory(models=vendor.models)
    vendor.next("GET", "/user/balance", answered(502))
    with pytest.raises(ProviderError):
        provider.probe(executor)
