"""Errors of Google's APIs: `{"error": {"code", "status", "message", "details"}}`, now and then inside a list.

A bad key is 400, an empty day's quota and a busy minute are both 429: the details tell them apart.
Source: ai.google.dev/gemini-api/docs/troubleshooting.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from providers import faults
from providers.base import ErrorKind, ProviderError
from providers.wire import refusals

STATUSES: dict[str, ErrorKind] = {
    "FAILED_PRECONDITION": "not_available",  # region, or billing not set up
    "UNAUTHENTICATED": "bad_credentials",
    "PERMISSION_DENIED": "bad_credentials",
    "NOT_FOUND": "not_available",
    "UNIMPLEMENTED": "not_available",
    "RESOURCE_EXHAUSTED": "rate_limited",
    "INVALID_ARGUMENT": "bad_input",
    "OUT_OF_RANGE": "bad_input",
    "CANCELLED": "transient",
    "ABORTED": "transient",
    "INTERNAL": "transient",
    "UNKNOWN": "transient",
    "DEADLINE_EXCEEDED": "transient",
    "UNAVAILABLE": "overloaded",
}
# Operations fail with the number of a gRPC status alone.
NUMBERS = {
    1: "CANCELLED",
    2: "UNKNOWN",
    3: "INVALID_ARGUMENT",
    4: "DEADLINE_EXCEEDED",
    5: "NOT_FOUND",
    7: "PERMISSION_DENIED",
    8: "RESOURCE_EXHAUSTED",
    9: "FAILED_PRECONDITION",
    10: "ABORTED",
    11: "OUT_OF_RANGE",
    12: "UNIMPLEMENTED",
    13: "INTERNAL",
    14: "UNAVAILABLE",
    16: "UNAUTHENTICATED",
}
UNSAFE = re.compile(
    r"(?i)safety (filter|system|polic|guideline)|responsible ai|prohibited (content|use)"
    r"|violat\w* .{0,40}(polic|guideline|safety)|blocked (by|due to|because)"
)
PACIFIC = "America/Los_Angeles"  # where the days of Google's quotas end


def problem_of(body: Any) -> ProviderError | None:
    """What an error body says, None when it is none of Google's."""
    fault = _fault(body)
    status = str(fault.get("status") or NUMBERS.get(fault.get("code", 0), ""))
    kind = STATUSES.get(status)
    if kind is None:
        return None
    message = str(fault.get("message") or "")
    details = list(_objects(fault.get("details")))
    if status == "RESOURCE_EXHAUSTED":
        return _exhausted(details)
    if kind == "bad_input" and _is_key(details, message):
        return faults.standard("bad_credentials")
    if kind == "bad_input" and UNSAFE.search(message):
        return refusals.refused(message)
    # Google reports contexts that are too long as INTERNAL too: one more try is enough to know.
    return faults.standard(kind, retries=1 if status == "INTERNAL" else None)


def _fault(body: Any) -> dict[str, Any]:
    if isinstance(body, list) and body:
        body = body[0]
    fault = body.get("error") if isinstance(body, dict) else None
    return fault if isinstance(fault, dict) else {}


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    for item in value if isinstance(value, list) else ():
        if isinstance(item, dict):
            yield item


def _is_key(details: list[dict[str, Any]], message: str) -> bool:
    said = message.lower()
    told = any(str(detail.get("reason", "")).startswith("API_KEY") for detail in details)
    return told or "api key not valid" in said or "api key expired" in said


def _exhausted(details: list[dict[str, Any]]) -> ProviderError:
    """The minute's, the day's, or no quota at all for this model."""
    broken = [one for detail in details for one in _objects(detail.get("violations"))]
    if any(str(one.get("quotaValue")) == "0" for one in broken):
        return faults.standard("not_available")
    if any("PerDay" in str(one.get("quotaId")) for one in broken):
        return faults.standard("quota_exhausted", retry_after=seconds_of_the_day())
    delays = (faults.duration(str(detail.get("retryDelay", ""))) for detail in details)
    return faults.standard("rate_limited", retry_after=next(filter(None, delays), None))


def seconds_of_the_day(now: datetime | None = None) -> float:
    """Until midnight at Google."""
    here = now or datetime.now(ZoneInfo(PACIFIC))
    tomorrow = (here + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return tomorrow.timestamp() - here.timestamp()


def of_operation(fault: Mapping[str, Any]) -> ProviderError:
    """The error of a job that failed; an unknown one is worth another executor, not another try here."""
    known = problem_of({"error": fault})
    return known or ProviderError("transient", "The provider failed to make it.", retries=0)
