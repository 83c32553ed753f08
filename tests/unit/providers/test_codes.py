"""Error bodies of OpenAI-compatible servers."""

import json

import pytest

from providers.http import Reply
from providers.wire import codes


def explained(status, body, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return codes.explain(Reply(status, named, content))


def openai(code=None, type=None, message="It failed."):  # noqa: A002 - the vendor's word
    return {"error": {"message": message, "type": type, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, openai("context_length_exceeded", "invalid_request_error"), "bad_input"),
        (400, openai("moderation_blocked", "image_generation_user_error"), "content_refused"),
        (400, openai("content_policy_violation", "invalid_request_error"), "content_refused"),
        (401, openai("invalid_api_key", "invalid_request_error"), "bad_credentials"),
        (401, openai(None, "invalid_request_error"), "bad_credentials"),
        (403, openai("unsupported_country_region_territory"), "not_available"),
        (404, openai("model_not_found", "invalid_request_error"), "not_available"),
        (429, openai("rate_limit_exceeded", "requests"), "rate_limited"),
        (429, openai("insufficient_quota", "insufficient_quota"), "quota_exhausted"),
        (400, openai("billing_hard_limit_reached"), "quota_exhausted"),
        (500, openai(None, "server_error"), None),
        (503, openai("slow_down"), "overloaded"),
        # Ark
        (400, openai("InputTextSensitiveContentDetected.PolicyViolation"), "content_refused"),
        (400, openai("OutputVideoSensitiveContentDetected"), "content_refused"),
        (400, openai("ContentSecurityDetectionError"), "transient"),
        (403, openai("AccountOverdueError"), "quota_exhausted"),
        (404, openai("InvalidEndpointOrModel.NotFound"), "not_available"),
        (429, openai("ModelAccountRpmRateLimitExceeded"), "rate_limited"),
        (429, openai("ServerOverloaded"), "overloaded"),
        (429, openai("SetLimitExceeded"), "quota_exhausted"),
        # DashScope: the flat form, and money as a 400
        (400, {"code": "Arrearage", "message": "overdue", "request_id": "1"}, "quota_exhausted"),
        (400, {"code": "DataInspectionFailed", "message": "no"}, "content_refused"),
        (400, {"code": "InvalidParameter", "message": "no"}, "bad_input"),
        (403, {"code": "AllocationQuota.FreeTierOnly", "message": "no"}, "quota_exhausted"),
        (429, {"code": "Throttling.RateQuota", "message": "no"}, "rate_limited"),
        (429, {"code": "Throttling.AllocationQuota", "message": "no"}, "quota_exhausted"),
        # DeepSeek says it in prose
        (400, openai("invalid_request_error", message="Content Exists Risk"), "content_refused"),
        (400, openai("invalid_request_error", message="Model Not Exist"), "not_available"),
        (402, openai(message="Insufficient Balance"), "quota_exhausted"),
        # Google wraps it in a list
        (429, [openai("rate_limit_exceeded")], "rate_limited"),
        (418, openai("teapot", "brew"), None),
        (500, {"error": "something"}, None),
        (500, {"error": 7}, None),
        (500, [], None),
        (502, b"<html>Bad Gateway</html>", None),
    ],
)
def test_the_vendors_code_decides(status, body, kind):
    problem = explained(status, body)

    assert (problem.kind if problem else None) == kind


def test_a_refusal_keeps_the_vendors_words():
    problem = explained(400, openai("moderation_blocked", message="Your request was rejected."))

    assert problem is not None
    assert problem.message == problem.refusal == "Your request was rejected."


def test_other_messages_of_vendors_are_not_shown():
    problem = explained(400, openai("invalid_value", message="host 10.0.0.7 says no"))

    assert problem is not None
    assert "10.0.0.7" not in problem.message


def test_limits_carry_their_wait():
    problem = explained(429, openai("rate_limit_exceeded"), retry_after_ms="2500")
    exhausted = explained(429, openai("insufficient_quota"), retry_after="60")

    assert problem is not None
    assert exhausted is not None
    assert (problem.retry_after, exhausted.retry_after) == (2.5, None)


def test_an_adapter_adds_its_own_codes():
    table = codes.CODES | {"TaskExpired": "lost"}

    assert codes.by_code("taskexpired.late", table) == "lost"
    assert codes.by_code("taskexpired.late") is None
