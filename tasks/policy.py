"""What an error means for the task: the one place where retrying, failing over and giving up is decided.

The table is docs/how-it-works.md "Error kinds"; `decide` is that table as code. It is pure: the caller gives the
task's counters and gets a verdict. Times are seconds; `jitter` is a number in [-1, 1].
"""

from dataclasses import dataclass
from typing import Any, Literal

from genpulse.config import config

Next = Literal["retry", "failover", "verify", "stop"]

SAME_EXECUTOR_RETRIES = {"transient": 2, "overloaded": 1, "lost": 1}
COUNTS = frozenset({"transient", "overloaded", "lost"})
STOPS = frozenset({"bad_input", "content_refused"})
FAILS_OVER = frozenset(
    {"transient", "overloaded", "lost", "quota_exhausted", "bad_credentials", "not_available"}
)
RETRYABLE = FAILS_OVER | {"rate_limited", "unknown_outcome"}
MAX_WAITED = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An attempt's error, with what the adapter said about it. `message` is safe to show."""

    kind: str
    message: str
    code: str = ""
    provider: str | None = None
    retry_after: float | None = None
    retries: int | None = None  # the adapter's cap on trying the same executor again
    health: bool = True  # false: says nothing about the executor (sandbox faults on request)
    delta_sent: bool = False  # text was already streamed: nothing may be retried
    possible_cost: bool = False

    def shown(self, code: str | None = None) -> dict[str, Any]:
        """The error object of a task."""
        return {
            "kind": self.kind,
            "code": code or self.code or self.kind,
            "message": self.message,
            "retryable": self.kind in RETRYABLE,
            "provider": self.provider,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`delay` before the task is ready again; `counts` against max_attempts; `code` replaces the fault's."""

    next: Next
    counts: bool = False
    delay: float = 0.0
    waits: float = 0.0
    code: str | None = None


def decide(  # noqa: PLR0911 - one return for each row of the table
    fault: Fault, *, tries: int, here: int, max_attempts: int, waited: float, jitter: float = 0.0
) -> Verdict:
    """`tries` and `here` are the counts before this error: over all executors, and in a row on this one."""
    if fault.kind in STOPS:
        return Verdict(next="stop")
    if fault.delta_sent:
        return Verdict(next="stop", counts=True, code="upstream_cut")
    if fault.kind == "unknown_outcome":
        return Verdict(next="verify")
    if fault.kind == "rate_limited":
        return _rate_limited(fault, waited)
    if fault.kind not in COUNTS:
        return Verdict(next="failover")
    if tries + 1 >= max_attempts:
        return Verdict(next="stop", counts=True, code="attempts_exhausted")
    move: Next = "retry" if here < _allowed_here(fault) else "failover"
    return Verdict(next=move, counts=True, delay=_delay(fault, tries, jitter))


def _allowed_here(fault: Fault) -> int:
    """How often the same executor may be tried again in a row."""
    if fault.kind == "lost" and fault.possible_cost:
        return 0
    allowed = SAME_EXECUTOR_RETRIES[fault.kind]
    return allowed if fault.retries is None else min(allowed, fault.retries)


def _rate_limited(fault: Fault, waited: float) -> Verdict:
    """Waits cost no try; without a Retry-After they double from 1 s to 60 s."""
    wait = fault.retry_after or min(max(1.0, waited), 60.0) * config.backoff_scale
    if waited + wait > MAX_WAITED:
        return Verdict(next="stop", code="attempts_exhausted")
    return Verdict(next="retry", delay=wait, waits=wait)


def _delay(fault: Fault, tries: int, jitter: float) -> float:
    """1 2 4 8..60 s +-25 %; a full vendor is given 10-60 s."""
    asked = fault.retry_after or 0.0
    if fault.kind == "overloaded":
        return min(max(asked, 10.0 * config.backoff_scale), 60.0)
    return max(asked, min(2.0**tries, 60.0) * (1 + jitter / 4) * config.backoff_scale)
