"""What errors and probes mean for executors and credentials: cooldowns set, doubled and lifted.

A cooldown is a row, so every process honours it and a restart forgets nothing. Counting errors in a row is each
process's own affair: three in a row seen by one process are enough to open a circuit.
"""

from collections import Counter
from datetime import datetime
from uuid import UUID

from admin_integrations import fleet
from genpulse import sql
from genpulse.config import config
from genpulse.events.log import NewEvent, append
from genpulse.http.parsing import render_time

KNOWN_FOR = 1.0  # seconds
OPENS_AFTER = 3  # transient errors in a row
OPEN_FIRST, OPEN_LONGEST = 30.0, 600.0  # seconds, doubling
OVERLOADED, NOT_AVAILABLE, RATE_LIMIT_LONGEST = 60.0, 3600.0, 120.0

SET = """
WITH before AS (SELECT 1 FROM admin_integrations_cooldown WHERE executor_id = %(executor)s AND model = %(model)s
  AND credential_id IS NOT DISTINCT FROM %(credential)s::uuid AND until > now())
INSERT INTO admin_integrations_cooldown (executor_id, credential_id, model, reason, until, probing, strikes)
VALUES (%(executor)s, %(credential)s, %(model)s, %(reason)s,
  CASE WHEN %(seconds)s::float8 IS NULL THEN NULL ELSE now() + make_interval(secs => %(seconds)s::float8) END, false, 1)
ON CONFLICT (executor_id, credential_id, model) DO UPDATE SET reason = excluded.reason,
  strikes = admin_integrations_cooldown.strikes + 1, probing = false,
  until = CASE WHEN %(doubles)s AND excluded.until IS NOT NULL THEN now() + make_interval(secs => least(
      %(seconds)s::float8 * power(2, admin_integrations_cooldown.strikes), %(longest)s))
    ELSE greatest(excluded.until, admin_integrations_cooldown.until) END
RETURNING until, EXISTS (SELECT FROM before)
"""
LIFT = """
DELETE FROM admin_integrations_cooldown
WHERE executor_id = %s AND model IN ('', %s) AND (credential_id IS NULL OR credential_id = %s)
  AND (reason IN ('circuit_open', 'overloaded', 'unhealthy') OR probing OR until <= now()) RETURNING reason
"""
MIDNIGHT = """
SELECT extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day' - now() AT TIME ZONE 'UTC')
"""
in_a_row: Counter[tuple[UUID, str]] = Counter()


def failed(
    executor: UUID,
    name: str,
    credential: UUID | None,
    model: str,
    kind: str,
    retry_after: float | None = None,
) -> bool:
    """Note an error of `kind`; True when a cooldown now stands in the way of trying the same again."""
    scale = config.backoff_scale
    if kind == "transient":
        in_a_row[(executor, model)] += 1
        if in_a_row[(executor, model)] < OPENS_AFTER:
            return False
        cool(executor, None, model, "circuit_open", OPEN_FIRST * scale, doubles=True)
        append(
            [
                NewEvent(
                    account=None,
                    type="executor.down",
                    data={"executor": name, "reason": "circuit_open"},
                )
            ]
        )
    elif kind == "overloaded":
        wait = max(retry_after or 0, OVERLOADED * scale)
        say(name, kind, cool(executor, None, model, kind, wait))
    elif kind == "rate_limited":
        wait = min(retry_after or 1.0, RATE_LIMIT_LONGEST)
        say(name, kind, cool(executor, credential, model, kind, wait))
    elif kind == "quota_exhausted":
        cool(executor, credential, "", kind, retry_after or seconds_to_midnight())
        append(
            [
                NewEvent(
                    account=None,
                    type="credential.exhausted",
                    data={"executor": name, "reason": kind},
                )
            ]
        )
    elif kind == "bad_credentials":
        cool(executor, credential, "", kind, None)
        append(
            [NewEvent(account=None, type="executor.down", data={"executor": name, "reason": kind})]
        )
    elif kind == "not_available":
        say(name, kind, cool(executor, None, model, kind, NOT_AVAILABLE * scale))
    else:
        return False
    return True


def doubted(executor: UUID, model: str) -> bool:
    """Whether a success would end something, as far as this process knew a second ago."""
    return (executor, model) in in_a_row or any(
        cooldown.executor_id == executor and cooldown.model in {"", model}
        for cooldown in fleet.current(KNOWN_FOR).cooldowns
    )


def succeeded(executor: UUID, name: str, credential: UUID | None, model: str) -> None:
    """A success ends the row of errors; a circuit that was open closes."""
    in_a_row.pop((executor, model), None)
    lifted = {reason for (reason,) in sql.fetch(LIFT, [executor, model, credential])}
    if lifted - {"rate_limited"}:
        append(
            [
                NewEvent(
                    account=None, type="executor.up", data={"executor": name, "reason": "recovered"}
                )
            ]
        )


def cool(
    executor: UUID | None,
    credential: UUID | None,
    model: str,
    reason: str,
    seconds: float | None,
    *,
    doubles: bool = False,
) -> datetime | None:
    """Send nothing there for `seconds` (None: until somebody changes it). Until when; None: it was so before."""
    [(until, before)] = sql.fetch(
        SET,
        {
            "executor": executor,
            "credential": credential,
            "model": model,
            "reason": reason,
            "seconds": seconds,
            "doubles": doubles,
            "longest": OPEN_LONGEST * config.backoff_scale,
        },
    )
    return None if before else until


def say(name: str, reason: str, until: datetime | None) -> None:
    """One event for a pause, however many errors it was made of."""
    if until is None:
        return
    data = {"executor": name, "reason": reason, "until": render_time(until)}
    append([NewEvent(account=None, type="executor.cooldown", data=data)])


def seconds_to_midnight() -> float:
    """Daily quotas come back at 00:00 UTC."""
    return float(sql.fetch(MIDNIGHT)[0][0])
