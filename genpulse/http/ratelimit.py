"""Token buckets in Redis, exact across processes: one Lua call decides and counts.

The burst equals the limit. While Redis is away requests pass, and it is asked again a second later.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import redis
import structlog
from redis.commands.core import Script
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from genpulse.auth.credentials import Credential, credential_of
from genpulse.config import config
from genpulse.errors import RateLimited
from genpulse.events.bells import live

log = structlog.get_logger(__name__)
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

# Redis' own clock, so that processes with different clocks share one bucket. Times in milliseconds.
TAKE = """
local limit = tonumber(ARGV[1])
local per_ms = limit / 60000
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = math.min(limit, (tonumber(kept[1]) or limit) + (now - (tonumber(kept[2]) or now)) * per_ms)
local allowed = tokens >= 1
if allowed then tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', tostring(tokens), 'at', now)
redis.call('PEXPIRE', KEYS[1], 60000)
local wait = allowed and 0 or math.ceil((1 - tokens) / per_ms)
return {allowed and 1 or 0, math.floor(tokens), math.ceil((limit - tokens) / per_ms), wait}
"""
_away_until = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """`reset`: seconds until the bucket is full; `retry_after`: seconds until the next token."""

    limit: int
    allowed: bool
    remaining: int
    reset: int
    retry_after: int

    @classmethod
    def of(cls, limit: int, said: Sequence[int]) -> Self:
        """What `TAKE` said."""
        allowed, remaining, full_ms, wait_ms = said
        return cls(
            limit, bool(allowed), remaining, -(-full_ms // 1000), max(1, -(-wait_ms // 1000))
        )

    @property
    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }


@cache
def _script() -> Script:
    return live().register_script(TAKE)


def take(bucket: str, limit: int) -> Verdict | None:
    """Take one token of `limit` a minute; None when the limit is 0 (off) or Redis is away."""
    global _away_until  # noqa: PLW0603 - one clock for the process
    if limit <= 0 or time.monotonic() < _away_until:
        return None
    try:
        return Verdict.of(limit, _script()(keys=[key_of(bucket)], args=[limit]))
    except redis.RedisError as error:
        _away_until = time.monotonic() + 1
        log.warning("ratelimit.off", error=type(error).__name__)
        return None


def refuse_over(verdict: Verdict | None) -> None:
    """Raises RateLimited for a verdict that says so."""
    if verdict is not None and not verdict.allowed:
        raise RateLimited(
            f"More than {verdict.limit} requests a minute.", retry_after=verdict.retry_after
        )


def check_login(address: str) -> None:
    """Attempts to log in count by address, whoever is tried. Raises RateLimited."""
    refuse_over(take(f"login:{address}", config.rate_limit_login))


def key_of(bucket: str) -> str:
    return f"gp:rl:{bucket}"


def limits(credential: Credential) -> tuple[int, int]:
    """(writes, reads) a minute; 0 = unlimited."""
    if credential.names_others:
        return 0, 0
    return config.rate_limit_write, config.rate_limit_read


def bucket_of(credential: Credential, method: str) -> tuple[str, int]:
    """What such requests count in, and how many a minute it takes."""
    writes, reads = limits(credential)
    kind, limit = ("r", reads) if method in SAFE else ("w", writes)
    return f"{kind}:{credential.type}:{credential.id}", limit


class KeyThrottle(BaseThrottle):
    """DRF's hook. The verdict stays on the request, so that every answer can carry its headers; one that is
    there already counts (`tasks.glance`)."""

    def allow_request(self, request: Request, view: Any) -> bool:
        credential = credential_of(request)
        if credential is None or request.method == "OPTIONS":
            return True
        asked: Any = request._request
        if getattr(asked, "rate", None) is None:
            asked.rate = take(*bucket_of(credential, request.method or ""))
        refuse_over(asked.rate)
        return True
