"""What a failed exchange means: status, header and transport errors as `ProviderError`.

A vendor's own code in the body says more than the status does, so adapters look there first
(`Provider.explain`); this is what is left. "Paid" requests are creates that cost money: once a byte of one has
left, silence means `unknown_outcome`, never a second try.
"""

import email.utils
import http.client
import math
import re
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from urllib3.exceptions import DecodeError, ProtocolError, ReadTimeoutError

from providers.base import AfterUnknown, ErrorKind, ProviderError

BY_STATUS: dict[int, ErrorKind] = {
    401: "bad_credentials",
    402: "quota_exhausted",
    403: "not_available",
    404: "not_available",
    408: "transient",
    409: "transient",
    410: "not_available",
    425: "transient",
    429: "rate_limited",
    501: "not_available",
    503: "overloaded",
    529: "overloaded",
}
MESSAGES: dict[ErrorKind, str] = {
    "transient": "The provider had an internal error.",
    "overloaded": "The provider is overloaded.",
    "rate_limited": "The provider asks to slow down.",
    "quota_exhausted": "The quota or the balance at the provider is used up.",
    "bad_credentials": "The provider refused the credential.",
    "not_available": "The provider does not offer this here.",
    "lost": "The provider lost the job.",
    "bad_input": "The provider cannot work with this input.",
    "content_refused": "The provider refused this content.",
    "unknown_outcome": "It is unknown whether the provider accepted the request.",
}
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
RAW_LIMIT = 2000  # characters of a vendor's answer that operators get to see
KEYS = re.compile(
    r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{8,}"
    r"|\b(sk|pat|ark|gp_live|AIza|LTAI|AKIA)[-_]?[A-Za-z0-9_-]{12,}"
    r"|((?:api[-_]?key|access[-_]?token|secret|signature|password)[\"']?\s*[:=]\s*[\"']?)[^\s\"'&,}]{6,}"
)


def standard(
    kind: ErrorKind, *, retry_after: float | None = None, retries: Literal[0, 1] | None = None
) -> ProviderError:
    """A ProviderError in the standard words of its kind."""
    return ProviderError(kind, MESSAGES[kind], retry_after=retry_after, retries=retries)


def kind_of_status(status: int) -> ErrorKind:
    """What a status means when the body says nothing."""
    if status in BY_STATUS:
        return BY_STATUS[status]
    if status >= 500:
        return "transient"
    return "bad_input" if status >= 400 else "not_available"  # a redirect: the base URL is wrong


def from_status(status: int, headers: Mapping[str, str]) -> ProviderError:
    """An answer with a status that is no success, when its body says nothing."""
    kind = kind_of_status(status)
    waits = kind in {"rate_limited", "overloaded"}
    return standard(kind, retry_after=retry_after(headers, limits=status == 429) if waits else None)


def after_paid(
    problem: ProviderError, status: int, *, readable: bool, after_unknown: AfterUnknown
) -> ProviderError:
    """A paid request was answered with a server error: may it have been accepted all the same?

    A gateway's 502 or 504, or a body that is not the vendor's JSON (`readable`), says nothing about the vendor. One
    that says so itself has normally neither started nor billed the work: looked up if it can be, else sent at most
    once more.
    """
    if problem.kind != "transient" or status < 500:
        return problem
    if status in {502, 504} or not readable or after_unknown == "find":
        return standard("unknown_outcome")
    if after_unknown == "verify" and problem.retries is None:
        problem.retries = 1
    return problem


def from_transport(cause: Exception, *, sent: bool, paid: bool, late: bool) -> ProviderError:
    """An exchange that broke. `sent`: a byte may have left. `late`: its deadline cut it."""
    if sent and paid:
        return standard("unknown_outcome")
    if late or (sent and isinstance(cause, (TimeoutError, ReadTimeoutError))):
        return ProviderError(
            "transient", "The provider did not answer in time.", "upstream_timeout"
        )
    if isinstance(cause, ssl.SSLError) and not sent:
        return ProviderError("transient", "There is no trusted connection to the provider.")
    if not sent:
        return ProviderError("transient", "The provider cannot be reached.")
    if _garbled(cause):
        return bad_response(paid=False)
    return ProviderError("transient", "The connection to the provider broke.")


def _garbled(cause: Exception) -> bool:
    if isinstance(cause, ProtocolError) and len(cause.args) > 1:
        cause = cause.args[1]
    if isinstance(cause, (http.client.RemoteDisconnected, OSError)):
        return False
    return isinstance(cause, (http.client.HTTPException, DecodeError, ProtocolError, ValueError))


def bad_response(*, paid: bool, raw: str | None = None) -> ProviderError:
    """The vendor answered something that cannot be read."""
    if paid:
        return ProviderError("unknown_outcome", MESSAGES["unknown_outcome"], raw=raw)
    return ProviderError(
        "transient", "The provider's answer cannot be read.", "bad_response", raw=raw
    )


def retry_after(headers: Mapping[str, str], *, limits: bool = False) -> float | None:
    """Seconds to wait: `retry-after-ms`, `retry-after` (seconds, fraction, HTTP date) and, with `limits`,
    OpenAI's `x-ratelimit-reset-*` of the exhausted limits. None when nothing readable is said."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "")
    for read in (_number, _date):
        seconds = read(text)
        if seconds is not None:
            return seconds
    return _reset_of_limits(headers) if limits else None


def _reset_of_limits(headers: Mapping[str, str]) -> float | None:
    waits = {
        word: duration(headers.get(f"x-ratelimit-reset-{word}", ""))
        for word in ("requests", "tokens")
    }
    used_up = [w for w in waits if headers.get(f"x-ratelimit-remaining-{w}", "").strip() == "0"]
    return max((waits[word] or 0.0 for word in used_up or waits), default=0.0) or None


def duration(text: str) -> float | None:
    """`1s`, `6m0s`, `120ms`, `37.5s`, `1h2m` -> seconds; None when it is none."""
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        return None
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return max(value, 0.0) if math.isfinite(value) else None


def _date(text: str) -> float | None:
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def scrub(text: str, *secrets: str) -> str:
    """`text` for operators: known secrets and all that looks like one replaced by ***, cut to 2000 characters."""
    for secret in secrets:
        text = text.replace(secret, "***") if secret else text
    # Cutting first could leave a half of a secret that no pattern knows any more.
    cleaned = KEYS.sub(lambda match: f"{match[3] or ''}***", text)
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in cleaned[:RAW_LIMIT])
