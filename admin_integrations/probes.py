"""Looks at executors: do they answer, do they take our key, what have they got?

One that is down is cooled as `unhealthy` and its work goes elsewhere; the next look that finds it well lifts that.
Asking happens in threads without the database, recording after it in one place.
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from django.db import transaction

from admin_integrations import fleet, vault
from admin_integrations.models import Executor
from genpulse import sql
from genpulse.errors import UnknownProvider
from genpulse.events.log import NewEvent, append
from providers import registry
from providers.base import ExecutorInfo, Inventory, Provider, ProviderError, Secret
from providers.http import Session

log = structlog.get_logger(__name__)
SECONDS = 15.0  # for one executor
THREADS = 8
UNHEALTHY_SECONDS = 120.0  # without another look it is tried again

TARGETS = """
SELECT e.id, e.name, e.type, e.base_url, e.region, e.config, k.id AS credential_id, k.ciphertext, k.base_url AS key_origin
FROM admin_integrations_executor e
LEFT JOIN LATERAL (
  SELECT c.id, c.ciphertext, c.base_url FROM admin_integrations_credential c
  JOIN admin_integrations_executor_credentials l ON l.credential_id = c.id
  WHERE l.executor_id = e.id AND c.status = 'active' AND (c.expire_at IS NULL OR c.expire_at > now())
  ORDER BY c.usage_count, c.id LIMIT 1) AS k ON true
WHERE e.dispatch = 'celery' AND (%s AND e.status <> 'inactive' OR e.id = ANY(%s::uuid[])) ORDER BY e.name
"""
# Another reason that stands in the way already says more than a probe.
COOL = """
INSERT INTO admin_integrations_cooldown (executor_id, credential_id, model, reason, until, probing, strikes)
VALUES (%s, NULL, '', 'unhealthy', now() + make_interval(secs => %s), false, 1)
ON CONFLICT (executor_id, credential_id, model) DO UPDATE SET until = excluded.until, probing = false
  WHERE admin_integrations_cooldown.reason = 'unhealthy'
RETURNING xmax = 0
"""
LIFT = """
DELETE FROM admin_integrations_cooldown
WHERE executor_id = %s AND credential_id IS NULL AND model = '' AND reason = 'unhealthy' RETURNING id
"""
# Whoever saw the log-in gone and sees it back knows better than the errors of that time.
ADMITTED = """
DELETE FROM admin_integrations_cooldown
WHERE executor_id = %s AND (credential_id IS NULL OR credential_id = %s) AND reason = 'bad_credentials'
"""
EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An executor and one of its keys."""

    id: UUID
    name: str
    type: str
    base_url: str
    region: str
    config: dict[str, Any]
    credential_id: UUID | None
    ciphertext: str | None
    key_origin: str | None

    def secret(self) -> Secret | None:
        """Its key; None also when the key belongs to another address."""
        if self.ciphertext is None or self.credential_id is None:
            return None
        if self.key_origin and not registry.same_origin(self.key_origin, self.base_url):
            return None
        return Secret(vault.decrypt(self.ciphertext, owner=self.credential_id))


@dataclass(frozen=True, slots=True)
class Finding:
    """`login` None: it could not be seen. `inventory` None: keep what is known."""

    target: Target
    status: str
    login: str | None
    message: str
    inventory: Inventory | None = None


def check_all() -> int:
    """Chore: look at every executor that is not switched off; their number."""
    return _check(sql.fetch_dicts(TARGETS, [True, []]))


def check(executor: UUID) -> bool:
    """Look at one now; False when there is none, or an agent speaks for it."""
    return bool(_check(sql.fetch_dicts(TARGETS, [False, [executor]])))


def _check(rows: Sequence[dict[str, Any]]) -> int:
    targets = [Target(**{**row, "config": sql.loads(row["config"])}) for row in rows]
    with ThreadPoolExecutor(THREADS) as pool:
        for finding in pool.map(ask, targets):
            record(finding)
    if targets:
        fleet.forget()
    return len(targets)


def ask(target: Target) -> Finding:
    """Probe one executor and take its inventory; never raises."""
    try:
        provider = registry.get(target.type)
        executor = _executor(target, provider)
        health = provider.probe(executor)
        found = None if health.status == "down" else _inventory(provider, executor)
    except ProviderError as problem:
        return _refusal(target, problem)
    except UnknownProvider:
        return Finding(target, "unknown", None, f"There is no provider {target.type!r} here.")
    except Exception:
        log.exception("probe.failed", executor=target.name)
        return Finding(target, "unknown", None, "The probe itself failed; see the log.")
    return Finding(target, health.status, health.login, health.message, found)


def _refusal(target: Target, problem: ProviderError) -> Finding:
    if problem.kind == "rate_limited":  # it answers, and knows us
        return Finding(target, "degraded", "ok", problem.message)
    login = EXPIRED if problem.kind == "bad_credentials" else None
    return Finding(target, "down", login, problem.message)


def _executor(target: Target, provider: Provider) -> ExecutorInfo:
    session = Session(target.base_url, deadline=time.monotonic() + SECONDS)
    return session.bind(
        provider,
        ExecutorInfo(
            http=session,
            name=target.name,
            base_url=target.base_url,
            region=target.region,
            config=target.config,
            credential=target.secret(),
        ),
    )


def _inventory(provider: Provider, executor: ExecutorInfo) -> Inventory | None:
    try:
        return provider.inventory(executor)
    except ProviderError as problem:
        log.info("inventory.failed", executor=executor.name, kind=problem.kind)
        return None


@transaction.atomic
def record(finding: Finding) -> None:
    """Write what was found, and tell operators when an executor or its log-in goes or comes back."""
    values: dict[str, Any] = {"health_message": finding.message[:500]}
    if finding.inventory is not None:
        values |= _known(finding.inventory)
    Executor.objects.filter(pk=finding.target.id).update(**values)
    sql.execute(
        "UPDATE admin_integrations_executor SET checked_at = now() WHERE id = %s",
        [finding.target.id],
    )
    if finding.status == "down":
        rows = sql.fetch(COOL, [finding.target.id, UNHEALTHY_SECONDS])
        if rows and rows[0][0]:
            _tell("executor.down", finding, "unhealthy")
    elif finding.status != "unknown" and sql.fetch(LIFT, [finding.target.id]):
        _tell("executor.up", finding, "recovered")
    _record_login(finding)


def _record_login(finding: Finding) -> None:
    """Each change is told once, whoever sees it first."""
    known, login = Executor.objects.filter(pk=finding.target.id), finding.login
    if login == EXPIRED:
        if known.exclude(login=EXPIRED).update(login=EXPIRED):
            _tell("executor.state", finding, "login_expired", state=EXPIRED)
        return
    if not login:
        return
    if known.filter(login=EXPIRED).update(login=login):
        sql.execute(ADMITTED, [finding.target.id, finding.target.credential_id])
        _tell("executor.state", finding, "login_restored", state="ok")
    known.exclude(login=login).update(login=login)


def _known(found: Inventory) -> dict[str, Any]:
    """An empty list says nothing: not every provider can tell."""
    return {
        "known_models": [name[:200] for name in found.models] or None,
        "known_nodes": [name[:200] for name in found.nodes] or None,
        "loaded_model": (found.loaded_model or "")[:200],
        "version": found.version[:100],
    }


def _tell(event: str, finding: Finding, reason: str, **more: str) -> None:
    data = {"executor": finding.target.name, "reason": reason, **more}
    append([NewEvent(account=None, type=event, data=data)])
