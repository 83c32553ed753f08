"""The qwen adapter against an Ollama on loopback: contract, failures, the executor."""

from typing import Any

import pytest

from providers.base import Call, Health, Inventory, ProviderError
from providers.testing import executor_at, make_call
from tests.emulators import ollama
from tests.emulators.base import (
    Fault,
    answered,
    as_fixture,
    cut_answer,
    delayed,
    drop_answer,
    drop_request,
    garbage,
    silence,
)
from tests.emulators.ollama import Ollama as Vendor
from tests.integration.providers.qwen_calls import (
    CHAT,
    COMPATIBLE,
    ask,
    part,
    provider,
    refused,
    said,
)
from tests.integration.providers.rows import Row, on, table
from tests.integration.providers.vendor_contract import VendorContract

vendor = as_fixture(Vendor)
BUSY = "server busy, please try again.  maximum pending requests exceeded"


def coded(status: int, code: str | None, message: str = "No.", **headers: str) -> Fault:
    """As an OpenAI-compatible server says it."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return answered(status, {"error": error}, **headers)


class TestNativeContract(VendorContract):
    provider = provider
    paid = False
    path = CHAT
    wanted = staticmethod(ask)

    faults = on(
        "POST",
        CHAT,
        {
            "transient": refused(500, "boom"),
            "overloaded": refused(503, BUSY),
            "rate_limited": refused(429, "slow"),
            "quota_exhausted": refused(402, "pay"),
            "bad_credentials": refused(401, "unauthorized"),
            "not_available": refused(404, "model 'x' not found, try pulling it first"),
            "bad_input": refused(400, "model is required"),
        },
    )


class TestCompatibleContract(TestNativeContract):
    path = COMPATIBLE

    def make(self, **more: Any) -> Call:
        return ask(self.vendor, base="/v1", **more)

    faults = on(
        "POST",
        COMPATIBLE,
        {
            "transient": answered(500),
            "overloaded": answered(503),
            "rate_limited": coded(429, "rate_limit_exceeded"),
            "quota_exhausted": coded(429, "insufficient_quota"),
            "bad_credentials": coded(401, "invalid_api_key"),
            "not_available": coded(404, "model_not_found"),
            "bad_input": coded(400, "context_length_exceeded"),
            "content_refused": coded(400, "content_filter"),
        },
    )


ROWS = [
    Row("no tools", refused(400, '"m" does not support tools'), "bad_input"),
    Row("no chat", refused(400, '"m" does not support chat'), "bad_input"),
    Row("bad options", refused(400, "invalid options: x"), "bad_input"),
    Row("sign in", answered(401, {"error": "unauthorized", "signin_url": "x"}), "bad_credentials"),
    Row("pay", refused(402, "payment required"), "quota_exhausted"),
    Row("no model", refused(404, 'model "m" not found, try pulling it first'), "not_available"),
    Row("too large", refused(413, "too large"), "bad_input"),
    Row("slow down", refused(429, "rate limit"), "rate_limited"),
    Row("hung up", refused(499, "request canceled"), "transient"),
    Row("memory", refused(500, "model requires more system memory (9 GiB)"), "overloaded"),
    Row("runner", refused(500, "llama runner process has terminated: x"), "overloaded"),
    Row("cuda", refused(500, "CUDA out of memory"), "overloaded"),
    Row("loading", refused(500, "timed out waiting for llama runner to start"), "overloaded"),
    Row("500", refused(500, "boom"), "transient", retries=None),
    Row("502", refused(502, "cloud model unreachable"), "transient"),
    Row("busy", refused(503, BUSY), "overloaded"),
    Row("request dropped", drop_request(), "transient"),
    Row("answer dropped", drop_answer(), "transient"),
    Row("answer cut", cut_answer(20), "transient", "bad_response"),
    Row("garbage", garbage(), "transient", "bad_response"),
    Row("NaN", answered(200, '{"message": NaN}'), "transient", "bad_response"),
    Row("web page", answered(200, "<html>"), "transient", "bad_response"),
    Row("10 MB", answered(200, b" " * 10_000_001), "transient", "bad_response"),
    Row("error as success", refused(200, "boom"), "transient"),
    Row("not done", answered(200, {"message": {"content": "a"}}), "transient", "upstream_cut"),
]


@table(ROWS)
def test_failures(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", CHAT, row.fault)
    row.expect(provider, ask(vendor))
    assert vendor.count() == 1


COMPATIBLE_ROWS = [
    Row("moderated", coded(400, "content_filter"), "content_refused"),
    Row("inspected", coded(400, "data_inspection_failed"), "content_refused"),
    Row("no money", coded(429, "insufficient_quota"), "quota_exhausted"),
    Row("arrears", coded(400, "Arrearage"), "quota_exhausted"),
    Row("pay", coded(402, None), "quota_exhausted"),
    Row(
        "slow down",
        coded(429, "rate_limit_exceeded", retry_after="3"),
        "rate_limited",
        retry_after=3.0,
    ),
    Row("key", coded(401, None), "bad_credentials"),
    Row("forbidden", coded(403, None), "not_available"),
    Row("no model", coded(404, None, "The model `m` does not exist."), "not_available"),
    Row("too long", coded(400, "context_length_exceeded"), "bad_input"),
    Row("options", coded(422, None), "bad_input"),
    Row("full", coded(503, None), "overloaded"),
]


@table(COMPATIBLE_ROWS)
def test_failures_of_the_compatible_door(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", COMPATIBLE, row.fault)
    row.expect(provider, ask(vendor, base="/v1"))
    assert vendor.count() == 1


def test_an_answer_that_a_filter_ended_is_a_refusal(vendor: Vendor) -> None:
    choice = {"index": 0, "message": {"content": "I"}, "finish_reason": "content_filter"}
    vendor.next("POST", COMPATIBLE, answered(200, {"choices": [choice]}))
    with pytest.raises(ProviderError) as caught:
        provider.submit(ask(vendor, base="/v1"))
    assert caught.value.kind == "content_refused"


STREAMS = [
    Row("no end", Fault(reply=ollama.lines(part("a"))), "transient", "upstream_cut"),
    Row("error", Fault(reply=ollama.lines(part("a"), {"error": "boom"})), "transient"),
    Row("memory", Fault(reply=ollama.lines({"error": "CUDA out of memory"})), "overloaded"),
    Row("no JSON", answered(200, '{"message"'), "transient", "bad_response"),
    Row("a list", Fault(reply=ollama.lines([1])), "transient", "bad_response"),
]


@table(STREAMS)
def test_failures_of_streams(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", CHAT, row.fault)
    row.expect(provider, ask(vendor, stream=True))


def test_silence_ends_at_the_deadline(vendor: Vendor) -> None:
    """Loading a model may take minutes before the first byte: only the call's deadline counts."""
    vendor.next("POST", CHAT, delayed(0.1), silence())
    assert said(vendor).text == "Hello, Alice."
    Row("", silence(), "transient", "upstream_timeout").expect(provider, ask(vendor, timeout=0.2))
    vendor.next("POST", CHAT, silence(), silence())
    for stream in (False, True):
        call = ask(vendor, stream=stream, config={"chat_timeout": 0.1})
        Row("", silence(), "transient", "upstream_timeout").expect(provider, call)


def test_nobody_there() -> None:
    Row("", silence(), "transient").expect(provider, make_call(provider, input={"prompt": "Hi"}))


def test_a_model_that_is_not_there(vendor: Vendor) -> None:
    row = Row("", silence(), "not_available")
    row.expect(provider, ask(vendor, model="qwen3:32b"))
    row.expect(provider, ask(vendor, model="qwen3:32b", base="/v1"))
    assert "qwen3:32b" not in provider.inventory(executor_at(provider, vendor.url)).models


def test_only_chat(vendor: Vendor) -> None:
    Row("", silence(), "not_available").expect(provider, ask(vendor, task_type="embedding"))


def test_probe_and_inventory(vendor: Vendor) -> None:
    for path in ("", "/", "/api"):
        executor = executor_at(provider, vendor.url + path, credential=None)
        assert provider.probe(executor) == Health("healthy")
        assert provider.inventory(executor) == Inventory(
            models=["qwen3:8b", "llama3:latest", "llama3"],
            version="0.40.12",
            loaded_model="qwen3:8b",
        )
    compatible = executor_at(provider, f"{vendor.url}/v1", credential=None)
    assert provider.probe(compatible) == Health("healthy")
    listed = Inventory(models=["qwen3:8b", "llama3:latest", "llama3"])
    assert provider.inventory(compatible) == listed


@pytest.mark.parametrize(
    ("owner", "models"),
    [
        ("llamacpp", ["/models/qwen3-8b-q4.gguf", "*"]),  # it answers to every name
        ("me", ["/models/qwen3-8b-q4.gguf", "*"]),
        ("vllm", ["/models/qwen3-8b-q4.gguf"]),
        ("library", ["/models/qwen3-8b-q4.gguf"]),
    ],
)
def test_a_server_of_one_model(vendor: Vendor, owner: str, models: list[str]) -> None:
    item = {"id": "/models/qwen3-8b-q4.gguf", "object": "model", "owned_by": owner}
    body = {"object": "list", "models": [{"name": item["id"]}], "data": [item]}
    vendor.next("GET", "/v1/models", answered(200, body))
    executor = executor_at(provider, f"{vendor.url}/v1", credential=None)
    assert provider.inventory(executor).models == models


def test_a_probe_of_nobody() -> None:
    with pytest.raises(ProviderError):
        provider.probe(executor_at(provider))
