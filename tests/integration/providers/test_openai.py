"""The OpenAI adapter against a strict api.openai.com on loopback: contract, failures, the executor."""

import pytest

from providers.base import (
    Completed,
    Health,
    Inventory,
    ProviderError,
)
from providers.testing import executor_at, make_call
from tests.emulators.base import (
    answered,
    as_fixture,
    cut_answer,
    delayed,
    drop_answer,
    drop_request,
    garbage,
    silence,
)
from tests.emulators.openai import OpenAI as Vendor
from tests.integration.providers.openai_calls import (
    CHAT,
    IMAGES,
    ask,
    draw,
    film,
    provider,
    refused,
)
from tests.integration.providers.rows import Row, on, table
from tests.integration.providers.vendor_contract import VendorContract

vendor = as_fixture(Vendor)


class TestImageContract(VendorContract):
    provider = provider
    path = IMAGES
    wanted = staticmethod(draw)

    faults = on(
        "POST",
        IMAGES,
        {
            "transient": refused(500, "Oops", "server_error"),
            "overloaded": refused(503, "Slow down", "server_error", "slow_down"),
            "rate_limited": refused(429, "Slow", "requests", "rate_limit_exceeded"),
            "quota_exhausted": refused(429, "No money", "insufficient_quota", "insufficient_quota"),
            "bad_credentials": refused(401, "No", "invalid_request_error", "invalid_api_key"),
            "not_available": refused(404, "No", "invalid_request_error", "model_not_found"),
            "bad_input": refused(400, "No", "invalid_request_error", "invalid_value"),
            "content_refused": refused(400, "No", "x", "moderation_blocked"),
            "unknown_outcome": drop_answer(),
        },
    )


class TestChatContract(VendorContract):
    provider = provider
    paid = False
    path = CHAT
    wanted = staticmethod(ask)

    faults = on("POST", CHAT, {"transient": drop_answer()})


class TestVideoContract(VendorContract):
    provider = provider
    path = "/v1/videos"
    wanted = staticmethod(film)

    faults = on("POST", "/v1/videos", {"unknown_outcome": refused(500, "Oops", "server_error")})


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


def test_probe_and_inventory(vendor: Vendor) -> None:
    executor = executor_at(provider, vendor.base)
    assert provider.probe(executor) == Health("healthy", "ok")
    assert provider.inventory(executor) == Inventory(models=vendor.models)
    wrong = executor_at(provider, vendor.base, credential="sk-wrong-0123456789")
    assert provider.probe(wrong) == Health(
        "down", "expired", "The provider refused the credential."
    )


def test_a_server_without_a_list_of_models(vendor: Vendor) -> None:
    vendor.next("GET", "/v1/models", answered(404), answered(405), answered(503))
    executor = executor_at(provider, vendor.base)
    assert provider.probe(executor).status == "healthy"
    assert provider.inventory(executor) == Inventory()
    with pytest.raises(ProviderError):
        provider.probe(executor)


def test_slow_answers_are_waited_for(vendor: Vendor) -> None:
    vendor.next("POST", CHAT, delayed(0.1))
    assert isinstance(provider.submit(ask(vendor)), Completed)
