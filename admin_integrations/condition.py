"""How executors and keys are, in one word each: read from the cooldowns in force."""

from datetime import UTC, datetime

from admin_integrations.models import Cooldown, Credential, Executor

DOWN = {
    "unhealthy",
    "bad_credentials",
    "quota_exhausted",
}  # without a key's name they are about all of it
NEVER = {"bad_credentials"}


def in_force(cooldowns: list[Cooldown]) -> list[Cooldown]:
    now = datetime.now(UTC)
    return [cold for cold in cooldowns if cold.until is None or cold.until > now]


def word(executor: Executor) -> str:
    """healthy, degraded, down, or unknown where nobody has looked yet."""
    found = in_force(list(executor.cooldowns.all()))
    if any(cold.credential_id is None and not cold.model and cold.reason in DOWN for cold in found):
        return "down"
    if found:
        return "degraded"
    return "healthy" if executor.checked_at or executor.last_heartbeat_at else "unknown"


def key_status(key: Credential) -> str:
    """active, exhausted, cooling, expired or disabled."""
    reasons = {cold.reason for cold in in_force(list(key.cooldowns.all()))}
    if key.status != Credential.Status.ACTIVE or reasons & NEVER:
        return "disabled"
    if key.expire_at and key.expire_at <= datetime.now(UTC):
        return "expired"
    used_up = key.daily_quota is not None and used_today(key) >= key.daily_quota
    if used_up or "quota_exhausted" in reasons:
        return "exhausted"
    return "cooling" if reasons else "active"


def used_today(key: Credential) -> int:
    """Days are UTC days."""
    return key.used_today if key.used_on == datetime.now(UTC).date() else 0


def cooldown_until(key: Credential) -> datetime | None:
    """When the last pause ends; None without one, or when only a change ends it."""
    ends = [cold.until for cold in in_force(list(key.cooldowns.all())) if cold.until]
    return max(ends, default=None)
