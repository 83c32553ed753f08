"""The Gemini adapter against a strict Google API on loopback: contract, failures, the executor."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from providers.base import Call, ErrorKind, Health, Inventory, ProviderError
from providers.testing import ProviderContract, executor_at, make_call
from providers.wire.gemini_errors import of_operation, seconds_of_the_day
from tests.emulators.base import (
    answered,
    as_fixture,
    cut_answer,
    drop_answer,
    drop_request,
    garbage,
    silence,
)
from tests.emulators.gemini import BAD_KEY, quota, wait
from tests.emulators.gemini import Gemini as Vendor
from tests.emulators.openai import OpenAI as Compatible
from tests.integration.providers.gemini_calls import (
    CHAT,
    PICTURES,
    STREAM,
    ask,
    draw,
    film,
    provider,
    refused,
)
from tests.integration.providers.rows import Row, on, table
from tests.integration.providers.vendor_contract import VendorContract

vendor = as_fixture(Vendor)
compatible = as_fixture(Compatible)
VEO = "/v1beta/models/veo-3.1-generate-001:predictLongRunning"


class TestChatContract(VendorContract):
    provider = provider
    paid = False
    path = CHAT
    wanted = staticmethod(ask)

    faults = on(
        "POST",
        CHAT,
        {
            "transient": refused(500, "INTERNAL"),
            "overloaded": refused(503, "UNAVAILABLE"),
            "rate_limited": refused(429, "RESOURCE_EXHAUSTED"),
            "quota_exhausted": refused(429, "RESOURCE_EXHAUSTED", "", quota("RequestsPerDay")),
            "bad_credentials": refused(400, "INVALID_ARGUMENT", "", BAD_KEY),
            "not_available": refused(404, "NOT_FOUND"),
            "bad_input": refused(400, "INVALID_ARGUMENT"),
        },
    )


class TestPictureContract(VendorContract):
    provider = provider
    path = PICTURES
    wanted = staticmethod(draw)

    @pytest.fixture(autouse=True)
    def _vendor(self, vendor: Vendor) -> None:
        vendor.says.parts = [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]
        self.vendor = vendor

    faults = on("POST", PICTURES, {"unknown_outcome": drop_answer()})


class TestVideoContract(VendorContract):
    provider = provider
    path = VEO
    wanted = staticmethod(film)

    faults = on("POST", VEO, {"unknown_outcome": answered(504)})


class TestInteractionContract(TestVideoContract):
    path = "/v1beta/interactions"

    def make(self, **more: Any) -> Call:
        return film(self.vendor, "gemini-omni-1.1-flash", **more)

    faults = on("POST", "/v1beta/interactions", {"unknown_outcome": drop_answer()})


class TestCompatibleContract(ProviderContract):
    provider = provider
    paid = False

    @pytest.fixture(autouse=True)
    def _vendor(self, compatible: Compatible) -> None:
        self.vendor = compatible

    def make(self, **more: Any) -> Call:
        call = {"base_url": self.vendor.base, **more}
        return make_call(provider, "gemini-2.5-flash", {"prompt": "Hi"}, **call)

    def creates(self) -> int:
        return self.vendor.count("POST", "/v1/chat/completions")


# What is refused before any work began means the same for every call.
FULL = "RESOURCE_EXHAUSTED"
REFUSALS = [
    Row("key", refused(400, "INVALID_ARGUMENT", "Bad.", BAD_KEY), "bad_credentials"),
    Row("old key", refused(400, "INVALID_ARGUMENT", "API key expired."), "bad_credentials"),
    Row("argument", refused(400, "INVALID_ARGUMENT", "Invalid safetySettings"), "bad_input"),
    Row("region", refused(400, "FAILED_PRECONDITION"), "not_available"),
    Row("oauth", refused(401, "UNAUTHENTICATED"), "bad_credentials"),
    Row("pay", answered(402), "quota_exhausted"),
    Row("leaked key", refused(403, "PERMISSION_DENIED"), "bad_credentials"),
    Row("no model", refused(404, "NOT_FOUND"), "not_available"),
    Row("too large", answered(413), "bad_input"),
    Row(
        "minute",
        refused(429, FULL, "", quota("RequestsPerMinute"), wait("37.5s")),
        "rate_limited",
        retry_after=37.5,
    ),
    Row("no delay", refused(429, FULL), "rate_limited", retry_after=None),
    Row("no free tier", refused(429, FULL, "", quota("PerDay", "0")), "not_available"),
    Row("hung up", refused(499, "CANCELLED"), "transient"),
    Row("503", refused(503, "UNAVAILABLE"), "overloaded"),
    Row(
        "unsafe",
        refused(400, "INVALID_ARGUMENT", "The prompt was blocked by safety filters."),
        "content_refused",
    ),
]
PAID = [
    Row("500", refused(500, "INTERNAL"), "transient", retries=1),
    Row("500 of a proxy", answered(500, "<html>"), "unknown_outcome"),
    Row("504", refused(504, "DEADLINE_EXCEEDED"), "unknown_outcome"),
    Row("502", answered(502, "<html>"), "unknown_outcome"),
    Row("request dropped", drop_request(), "unknown_outcome"),
    Row("answer dropped", drop_answer(), "unknown_outcome"),
    Row("answer cut", cut_answer(20), "unknown_outcome"),
    Row("garbage", garbage(), "unknown_outcome"),
    Row("NaN", answered(200, '{"candidates": NaN}'), "unknown_outcome"),
    Row("nothing", answered(200, {}), "transient", "no_output", retries=1),
]
FREE = [
    Row("500", refused(500, "INTERNAL"), "transient", retries=1),
    Row("504", refused(504, "DEADLINE_EXCEEDED"), "transient"),
    Row("request dropped", drop_request(), "transient"),
    Row("answer dropped", drop_answer(), "transient"),
    Row("answer cut", cut_answer(20), "transient", "bad_response"),
    Row("garbage", garbage(), "transient", "bad_response"),
    Row("NaN", answered(200, '{"candidates": NaN}'), "transient", "bad_response"),
    Row("a list", answered(200, [1]), "transient", "bad_response"),
    Row("32 MB", answered(200, b" " * 32_000_001), "transient", "bad_response"),
    Row("nothing", answered(200, {}), "transient", "no_output", retries=1),
]


@table(REFUSALS + FREE)
def test_failures_of_chat(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", CHAT, row.fault)
    row.expect(provider, ask(vendor))
    assert vendor.count() == 1


@table(REFUSALS)
def test_failures_of_streams(vendor: Vendor, row: Row) -> None:
    """Their errors come in a list."""
    body = row.fault.reply and row.fault.reply.body
    assert row.fault.reply
    vendor.next("POST", STREAM, answered(row.fault.reply.status, [body] if body else b""))
    row.expect(provider, ask(vendor, stream=True))


@table(REFUSALS + PAID)
def test_failures_of_pictures(vendor: Vendor, row: Row) -> None:
    vendor.next("POST", PICTURES, row.fault)
    row.expect(provider, draw(vendor))
    assert vendor.count() == 1


@table(REFUSALS + PAID[:-1])
def test_failures_of_videos(vendor: Vendor, row: Row) -> None:
    for path, model in ((VEO, "veo-3.1-generate-001"), ("/v1beta/interactions", "gemini-omni-1")):
        vendor.next("POST", path, row.fault)
        row.expect(provider, film(vendor, model))


def test_a_days_quota_lasts_until_midnight_at_google(vendor: Vendor) -> None:
    vendor.next("POST", CHAT, refused(429, FULL, "", quota("GenerateRequestsPerDayPerProject")))
    problem = Row("", silence(), "quota_exhausted").expect(provider, ask(vendor))
    assert problem.retry_after
    assert 0 < problem.retry_after <= 25 * 3600
    zone = ZoneInfo("America/Los_Angeles")
    assert seconds_of_the_day(datetime(2026, 11, 21, 22, 30, tzinfo=zone)) == 5400
    assert seconds_of_the_day(datetime(2026, 3, 8, 0, 0, tzinfo=zone)) == 23 * 3600


OPERATIONS: list[tuple[dict[str, Any], ErrorKind, int | None]] = [
    ({"code": 3, "message": "Bad argument"}, "bad_input", None),
    ({"code": 3, "message": "It violates our usage guidelines"}, "content_refused", None),
    ({"code": 7}, "bad_credentials", None),
    ({"code": 8}, "rate_limited", None),
    ({"code": 9}, "not_available", None),
    ({"code": 13}, "transient", 1),
    ({"code": 14}, "overloaded", None),
    ({"code": 99}, "transient", 0),
    ({}, "transient", 0),
]


@pytest.mark.parametrize(("fault", "kind", "retries"), OPERATIONS)
def test_numbers_of_operations(fault: dict[str, Any], kind: ErrorKind, retries: int | None) -> None:
    problem = of_operation(fault)
    assert (problem.kind, problem.retries) == (kind, retries)


def test_silence_ends_at_the_deadline(vendor: Vendor) -> None:
    vendor.next("POST", CHAT, silence())
    Row("", silence(), "transient", "upstream_timeout").expect(provider, ask(vendor, timeout=0.2))
    vendor.next("POST", CHAT, silence())
    vendor.next("POST", STREAM, silence())
    for stream in (False, True):
        call = ask(vendor, stream=stream, config={"chat_timeout": 0.1})
        Row("", silence(), "transient", "upstream_timeout").expect(provider, call)
    vendor.next("POST", PICTURES, silence())
    Row("", silence(), "unknown_outcome").expect(provider, draw(vendor, timeout=0.2))


def test_what_it_does_not_do(vendor: Vendor, compatible: Compatible) -> None:
    row = Row("", silence(), "not_available")
    row.expect(provider, ask(vendor, task_type="text-to-audio"))
    call = make_call(provider, "veo-3", {"prompt": "x"}, base_url=compatible.base)
    row.expect(provider, call)


def test_the_probe_keeps_the_session_alive(vendor: Vendor) -> None:
    assert provider.probe(executor_at(provider, vendor.base)) == Health("healthy", "ok")
    assert vendor.calls()[0].query == {"pageSize": ["1"]}
    wrong = executor_at(provider, vendor.base, credential="AIza-wrong-0123456789")
    assert provider.probe(wrong) == Health(
        "down", "expired", "The provider refused the credential."
    )
    nobody = executor_at(provider, vendor.base, credential=None)
    assert provider.probe(nobody).login == "expired"
    vendor.next("GET", "/v1beta/models", refused(503, "UNAVAILABLE"))
    with pytest.raises(ProviderError):
        provider.probe(executor_at(provider, vendor.base))


def test_inventory_page_by_page(vendor: Vendor) -> None:
    executor = executor_at(provider, vendor.base)
    assert provider.inventory(executor) == Inventory(models=vendor.models)
    assert vendor.count() == 2


def test_the_executor_of_a_compatible_server(compatible: Compatible) -> None:
    executor = executor_at(provider, f"{compatible.base}/chat/completions")
    assert provider.probe(executor) == Health("healthy", "ok")
    assert provider.inventory(executor) == Inventory(models=compatible.models)
    wrong = executor_at(provider, compatible.base, credential="sk-wrong-0123456789")
    assert provider.probe(wrong).login == "expired"
