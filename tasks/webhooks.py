"""Sending webhooks: the orchestrator claims what is due, I/O workers send it and record the outcome.

A claim is a lease; a process that dies in between costs its time. Of one host at most FLIGHT calls are in flight,
whoever sends them: claims are made one at a time, and a worker that has sent one goes on with the next of that host.
A later event of the same task and receiver waits until the earlier one was delivered or has failed three times.
"""

import random
import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from admin_integrations.vault import VaultError
from genpulse import sql
from genpulse.config import config
from genpulse.events.log import NewEvent, append
from genpulse.http.parsing import render_time
from tasks import publish, webhook_secrets
from tasks.desk import desk
from tasks.models import Delivery, WebhookEndpoint
from tasks.webhook_sending import Outcome, Outgoing, send

log = structlog.get_logger(__name__)

FLIGHT = 4
LEASE_SECONDS = 45.0
CHAIN_SECONDS = 20.0  # a worker's thread goes back to other work after this
RECORD_PATIENCE = 60.0
DELAYS = (5, 60, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
LONGEST_RETRY_AFTER = 3600.0
FAILING_DAYS = 5
GONE = "The endpoint is disabled or was deleted."
LAST_TRIES = 30  # kept of a delivery that was sent again and again

CLAIMABLE = """
  d.status = 'pending' AND d.next_attempt_at <= now() AND (d.lease_until IS NULL OR d.lease_until <= now())
  AND NOT EXISTS (SELECT 1 FROM tasks_delivery b WHERE b.task_id = d.task_id AND b.seq < d.seq
    AND b.endpoint_id IS NOT DISTINCT FROM d.endpoint_id AND b.url = d.url AND b.status = 'pending' AND b.attempts < 3)
"""
CLAIM = f"""
WITH RECURSIVE hosts AS (
  (SELECT host FROM tasks_delivery WHERE status = 'pending' ORDER BY host LIMIT 1)
  UNION ALL
  SELECT following.host FROM hosts, LATERAL (
    SELECT host FROM tasks_delivery WHERE status = 'pending' AND host > hosts.host ORDER BY host LIMIT 1) AS following
), room AS (
  SELECT host, %s - (SELECT count(*) FROM tasks_delivery f WHERE f.host = hosts.host AND f.lease_until > now()) AS free
  FROM hosts
), due AS (
  SELECT chosen.id FROM room, LATERAL (SELECT d.id FROM tasks_delivery d WHERE d.host = room.host AND {CLAIMABLE}
    ORDER BY d.next_attempt_at, d.id LIMIT greatest(room.free, 0)) AS chosen
)
UPDATE tasks_delivery AS d SET lease_until = now() + make_interval(secs => %s), sending = false FROM due
WHERE d.id = due.id AND d.status = 'pending' AND (d.lease_until IS NULL OR d.lease_until <= now())
RETURNING d.id, d.attempts
"""  # noqa: S608 - parts of our own
NEXT = f"""
UPDATE tasks_delivery SET lease_until = now() + make_interval(secs => %s), sending = true WHERE id = (
  SELECT d.id FROM tasks_delivery d WHERE d.host = %s AND {CLAIMABLE}
  ORDER BY d.next_attempt_at, d.id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id
"""  # noqa: S608
# Of two copies of a message one takes it; a message that waited past its lease finds the lease gone.
TAKE = """
UPDATE tasks_delivery SET lease_until = now() + make_interval(secs => %s), sending = true
WHERE id = %s AND attempts = %s AND status = 'pending' AND NOT sending AND lease_until > now()
"""
WISHED = """
SELECT c.options, (SELECT max(a.external_id) FROM tasks_attempt a WHERE a.task_id = c.task_id AND a.outcome = 'succeeded')
FROM tasks_taskcontent c WHERE c.task_id = %s
"""
ONE_CLAIMER = "SELECT pg_try_advisory_xact_lock(hashtext('genpulse.deliver'))"


def due() -> int:
    """Claim what is due, within the allowance of each host, and ring a worker for each."""
    with transaction.atomic():
        if not sql.fetch(ONE_CLAIMER)[0][0]:
            return 0
        rows = sql.fetch(CLAIM, [FLIGHT, LEASE_SECONDS])
    messages = [
        publish.Message("gp.deliver", publish.WEBHOOKS, (str(id_), attempts))
        for id_, attempts in rows
    ]
    publish.publish(messages)
    return len(rows)


def run(delivery_id: UUID, attempts: int) -> str:
    """One deliver job: send it, then go on with what is due for the same host."""
    ask = desk().recorder.ask
    until = time.monotonic() + CHAIN_SECONDS
    sent = 0
    out = ask(lambda: take(delivery_id, attempts)).result(RECORD_PATIENCE)
    while out is not None:
        one, outcome = out, send(out)
        sent += 1
        more = time.monotonic() < until
        out = ask(lambda: record(one, outcome, more=more)).result(RECORD_PATIENCE)  # noqa: B023 - asked at once
    return f"sent {sent}"


def take(delivery_id: UUID, attempts: int) -> Outgoing | None:
    """What to send, if this message is the one that may."""
    if not sql.execute(TAKE, [LEASE_SECONDS, delivery_id, attempts]):
        return None
    return load(delivery_id)


def load(delivery_id: UUID) -> Outgoing | None:
    """Everything the sender needs; None when it can never be sent, which is recorded."""
    one = Delivery.objects.get(pk=delivery_id)
    endpoint = endpoints(one).first()
    if one.endpoint_id and endpoint is None:
        fail(one, GONE)
        return None
    if one.body is None:
        fail(one, "The content was removed.")
        return None
    try:
        secrets = webhook_secrets.valid(endpoint or webhook_secrets.of_account(one.account_id))
    except VaultError:
        fail(one, "The signing secret cannot be read.")
        return None
    headers, remembered = wished(one.task_id)
    return Outgoing(
        id=one.id,
        url=one.url,
        host=one.host,
        style=one.style,
        event_id=one.event_id,
        body=envelope(one),
        secrets=secrets,
        headers={} if endpoint else headers,
        remembered=remembered,
    )


def endpoints(one: Delivery) -> QuerySet[WebhookEndpoint]:
    """The endpoint of a delivery while it is enabled; of a task's own webhook none."""
    return WebhookEndpoint.objects.filter(pk=one.endpoint_id or UUID(int=0), enabled=True)


def wished(task_id: UUID | None) -> tuple[dict[str, str], dict[str, Any]]:
    """Headers a task's callback asked for, which its door has checked, and what its door remembers."""
    for options, external_id in sql.fetch(WISHED, [task_id]):
        found = sql.loads(options)
        headers = (found.get("webhook") or {}).get("headers") or {}
        return headers, {**(found.get("dialect") or {}), "external_id": external_id}
    return {}, {}


def fail(one: Delivery, error: str) -> None:
    Delivery.objects.filter(pk=one.pk).update(
        status="failed", error=error, lease_until=None, next_attempt_at=None
    )


def envelope(one: Delivery) -> dict[str, Any]:
    """The body as it is kept; URLs come at sending."""
    return {
        "id": one.event_id,
        "type": one.event_type,
        "seq": one.seq,
        "timestamp": render_time(one.created_at),
        "data": one.body,
    }


def record(out: Outgoing, outcome: Outcome, *, more: bool) -> Outgoing | None:
    """Write down what the receiver said, and take the next of that host if `more`."""
    with transaction.atomic():
        one = Delivery.objects.select_for_update().get(pk=out.id)
        if one.status == "pending":
            _conclude(one, outcome)
            _note(one, outcome)
        rows = sql.fetch(NEXT, [LEASE_SECONDS, out.host]) if more else []
        return load(rows[0][0]) if rows else None


def _conclude(one: Delivery, outcome: Outcome) -> None:
    tried = {
        "at": render_time(outcome.at),
        "response_status": outcome.status,
        "error": outcome.error or None,
        "ms": outcome.ms,
    }
    one.tries = [*one.tries, tried][-LAST_TRIES:]
    one.attempts += 1
    one.response_status, one.response_ms, one.error = outcome.status, outcome.ms, outcome.error
    one.lease_until, one.sending = None, False
    if outcome.ok:
        one.status, one.delivered_at, one.next_attempt_at = "delivered", outcome.at, None
    elif outcome.status == 410 or one.attempts > len(DELAYS):
        one.status, one.next_attempt_at = "failed", None
    else:
        one.next_attempt_at = outcome.at + timedelta(
            seconds=wait(one.attempts, outcome.retry_after)
        )
    one.save()


def wait(attempts: int, retry_after: float) -> float:
    """Seconds until the next try after `attempts` failures."""
    planned = DELAYS[attempts - 1] * random.uniform(0.9, 1.1) * config.backoff_scale  # noqa: S311
    return max(planned, min(retry_after, LONGEST_RETRY_AFTER))


def _note(one: Delivery, outcome: Outcome) -> None:
    """The endpoint's health, from each outcome."""
    endpoint = endpoints(one)
    if outcome.ok:
        endpoint.update(last_success_at=outcome.at, failing_since=None)
        return
    endpoint.update(
        last_failure_at=outcome.at, failing_since=Coalesce(F("failing_since"), outcome.at)
    )
    if outcome.status == 410:
        disable(one, "gone")
    elif endpoint.filter(failing_since__lt=Now() - timedelta(days=FAILING_DAYS)).exists():
        disable(one, "failing")


def disable(one: Delivery, reason: str) -> None:
    """The endpoint gets nothing more until its owner switches it on."""
    changed = endpoints(one).update(enabled=False, disabled_reason=reason)
    if changed and one.endpoint_id:
        abandon(one.endpoint_id)
        data = {"endpoint_id": str(one.endpoint_id), "reason": reason}
        append([NewEvent(account=one.account_id, type="webhook.disabled", data=data)])


def abandon(endpoint_id: UUID) -> None:
    """What waits for an endpoint that is disabled or deleted will not be sent."""
    Delivery.objects.filter(endpoint_id=endpoint_id, status="pending", lease_until=None).update(
        status="failed", error=GONE, next_attempt_at=None
    )


def again(delivery_id: UUID) -> None:
    """Its schedule begins anew; a delivery that is on its way already stays so."""
    Delivery.objects.filter(pk=delivery_id, lease_until=None).update(
        status="pending", attempts=0, error="", next_attempt_at=Now(), delivered_at=None
    )
