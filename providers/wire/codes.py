"""Error bodies of OpenAI-compatible servers: the vendor's code, not the status, says what happened.

The same 429 or 400 carries opposite meanings, so codes are compared first, by prefix and without regard to case
(`InputTextSensitiveContentDetected.PolicyViolation`). An adapter adds its vendor's own codes with `by_code(code,
{**CODES, ...})`.
"""

from collections.abc import Mapping
from typing import Any

from providers import faults
from providers.base import ErrorKind, ProviderError
from providers.http import Reply

_REFUSED = """moderation_blocked content_policy_violation content_filter image_content_policy_violation bio_policy
    inputtextsensitivecontent inputimagesensitivecontent inputvideosensitivecontent inputaudiosensitivecontent
    outputtextsensitivecontent outputimagesensitivecontent outputvideosensitivecontent outputaudiosensitivecontent
    sensitivecontentdetected inputtextriskdetection datainspectionfailed data_inspection_failed
    ipinfringementsuspect faqruleblocked"""
_EMPTY = """insufficient_quota billing_hard_limit_reached accountoverdue serviceoverdue quotaexceeded setlimitexceeded
    arrearage allocationquota.freetieronly throttling.allocationquota insufficient_balance"""
_SLOW = "rate_limit_exceeded ratelimitexceeded throttling limit_requests"
_FULL = (
    "serveroverloaded requestbursttoofast slow_down overloaded server_overloaded engine_overloaded"
)
_KEY = "invalid_api_key invalidapikey authenticationerror authentication_error invalid_organization"
_ABSENT = """model_not_found modelnotfound modelnotopen invalidendpointormodel invalidendpoint accessdenied
    model.accessdenied workspace.accessdenied servicenotopen unsupported_country operationdenied
    model_not_available"""
_INPUT = """invalid_request_error context_length_exceeded unsupported_parameter unsupported_value invalid_value
    invalidparameter invalid_parameter badrequest invalidurl unsupportedoperation invalid_prompt invalid_image"""
_BROKEN = (
    "server_error internalserviceerror internalerror internal_error contentsecuritydetectionerror"
)

_WORDS: tuple[tuple[ErrorKind, str], ...] = (
    ("content_refused", _REFUSED),
    ("quota_exhausted", _EMPTY),
    ("rate_limited", _SLOW),
    ("overloaded", _FULL),
    ("bad_credentials", _KEY),
    ("not_available", _ABSENT),
    ("bad_input", _INPUT),
    ("transient", _BROKEN),
)
CODES: dict[str, ErrorKind] = {code: kind for kind, codes in _WORDS for code in codes.split()}
# Vendors that put the fact into the message alone.
PHRASES: dict[str, ErrorKind] = {
    "content exists risk": "content_refused",
    "model not exist": "not_available",
    "does not exist or you do not have access": "not_available",
    "insufficient balance": "quota_exhausted",
    "free quota": "quota_exhausted",
}


def by_code(code: str, table: Mapping[str, ErrorKind] = CODES) -> ErrorKind | None:
    """The kind of the longest entry that `code` starts with, or None."""
    code = code.lower()
    # Ark names the account's limit first: ModelAccountRpmRateLimitExceeded.
    if code.startswith("modelaccount") and "ratelimitexceeded" in code:
        return "rate_limited"
    entries = [entry for entry in table if code.startswith(entry.lower())]
    return table[max(entries, key=len)] if entries else None


def problem_of(
    body: Any, status: int, table: Mapping[str, ErrorKind] = CODES
) -> ProviderError | None:
    """What an error body says, also inside a stream or a 200; None when it says nothing known.

    Understands `{"error": {"code", "type", "message"}}`, `{"error": "text"}`, `[{"error": ...}]` and the flat
    `{"code", "message"}`.
    """
    code, kind_word, message = words(body)
    kind = by_phrase(message) or by_code(code, table) or _by_type(kind_word, status, table)
    if status == 401:
        kind = "bad_credentials"
    if kind is None:
        return None
    if kind == "content_refused":
        return ProviderError(kind, message or faults.MESSAGES[kind], refusal=message or None)
    return faults.standard(kind)


def words(body: Any) -> tuple[str, str, str]:
    """Code, type and message of an error body; empty texts for what is not there."""
    if isinstance(body, list) and body:
        body = body[0]
    fault = body.get("error", body) if isinstance(body, dict) else {}
    if isinstance(fault, str):
        return "", "", fault
    if not isinstance(fault, dict):
        return "", "", ""
    code, kind, message = (fault.get(name) for name in ("code", "type", "message"))
    return (
        str(code) if isinstance(code, str | int) else "",
        kind if isinstance(kind, str) else "",
        message if isinstance(message, str) else "",
    )


def by_phrase(message: str) -> ErrorKind | None:
    """The kind of a message of a vendor whose codes say nothing."""
    message = message.lower()
    return next((kind for phrase, kind in PHRASES.items() if phrase in message), None)


def _by_type(word: str, status: int, table: Mapping[str, ErrorKind]) -> ErrorKind | None:
    """A type such as invalid_request_error or server_error is on nearly every refusal: the status knows better."""
    kind = by_code(word, table)
    return None if kind in {"bad_input", "transient"} and status not in {200, 400, 422} else kind


def explain(reply: Reply, table: Mapping[str, ErrorKind] = CODES) -> ProviderError | None:
    """`Provider.explain` for OpenAI-compatible servers."""
    if not reply.readable:
        return None
    problem = problem_of(reply.json(), reply.status, table)
    if problem is not None and problem.kind in {"rate_limited", "overloaded"}:
        problem.retry_after = faults.retry_after(reply.headers, limits=True)
    return problem
