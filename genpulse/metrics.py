"""`GET /metrics`: what the processes counted, and what the database knows. docs/metrics.md names them all."""

import hmac
from collections.abc import Iterable, Sequence
from typing import Any

from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from genpulse import meters, sql
from genpulse.auth.authentication import from_headers
from genpulse.config import config
from genpulse.errors import AuthenticationRequired, PermissionDenied
from genpulse.http.plain import read_only
from tasks import queues
from tasks.hub import open_sockets

PRIORITIES = {0: "critical", 1: "default", 2: "low"}
LIVE = ("queued", "blocked", "admitted", "running", "awaiting", "verifying")

BY_STATUS = """
SELECT family, status, priority, count(*), extract(epoch FROM now() - min(created_at))::float8
FROM tasks_task WHERE finished_at IS NULL GROUP BY 1, 2, 3
"""
EXECUTORS = """
SELECT e.name, e.type, e.max_concurrency, count(a.number) FILTER (WHERE a.slot),
  (e.status = 'active' AND NOT EXISTS (SELECT 1 FROM admin_integrations_cooldown c WHERE c.executor_id = e.id
     AND c.credential_id IS NULL AND c.model = '' AND (c.until IS NULL OR c.until > now())))::int,
  EXISTS (SELECT 1 FROM admin_integrations_cooldown c WHERE c.executor_id = e.id AND c.reason = 'circuit_open'
     AND c.until > now())::int
FROM admin_integrations_executor e LEFT JOIN tasks_attempt a ON a.executor_id = e.id AND a.slot
GROUP BY e.id
"""
MONEY = """
SELECT coalesce(sum(deposited), 0)::float8 / 1e6, coalesce(sum(charged), 0)::float8 / 1e6,
  coalesce(sum(held), 0)::float8 / 1e6 FROM wallet_wallet
"""
RELEASED = "SELECT coalesce(sum(amount - charged), 0)::float8 / 1e6 FROM wallet_hold WHERE status <> 'open'"
WORKERS = "SELECT name, threads, threads - free FROM tasks_worker WHERE last_seen > now() - interval '1 minute'"
LEADER = "SELECT holder, (until > now())::int FROM tasks_orchestratorlease WHERE holder <> ''"
VERIFYING = """
SELECT coalesce(extract(epoch FROM now() - min(started_at)), 0)::float8 FROM tasks_task WHERE status = 'verifying'
"""
ORPHANS = "SELECT count(*) FROM tasks_attempt WHERE late AND stage = 'accepted'"
BACKLOG = "SELECT count(*) FROM tasks_delivery WHERE status = 'pending'"
DELIVERED = "SELECT status, count(*) FROM tasks_delivery WHERE status <> 'pending' GROUP BY 1"


class Counted(Collector):
    """What the processes of this machine counted; a meter that nothing moved yet is named all the same."""

    def collect(self) -> Iterable[Metric]:
        files = MultiProcessCollector(None, path=str(meters.FOLDER))  # type: ignore[no-untyped-call]
        moved = {metric.name: metric for metric in files.collect()}  # type: ignore[no-untyped-call]
        still = {metric.name: metric for meter in meters.ALL for metric in meter.describe()}
        yield from {**still, **moved}.values()


class Database(Collector):
    """Gauges read from PostgreSQL, and the sockets of this process, at the moment of the scrape."""

    def collect(self) -> Iterable[Metric]:
        yield from tasks()
        yield from executors()
        yield from money()
        yield gauge(
            "genpulse_worker_threads",
            ["worker", "kind"],
            [
                ((name, kind), value)
                for name, most, used in sql.fetch(WORKERS)
                for kind, value in (("max", most), ("used", used))
            ],
        )
        leaders = [((holder,), leads) for holder, leads in sql.fetch(LEADER)]
        yield gauge("genpulse_orchestrator_leader", ["replica"], leaders)
        yield single("genpulse_verifying_oldest_seconds", VERIFYING)
        yield single("genpulse_orphan_attempts", ORPHANS)
        yield single("genpulse_webhook_backlog", BACKLOG)
        yield gauge("genpulse_ws_connections", [], [((), open_sockets())])
        yield counter(
            "genpulse_webhook_deliveries", ["outcome"], [((s,), n) for s, n in sql.fetch(DELIVERED)]
        )


def tasks() -> Iterable[Metric]:
    """Every family has its rows, so that what falls to none is seen to fall."""
    families = queues.names()
    active = {(family, status): 0 for family in families for status in LIVE}
    depth = {(family, level): 0 for family in families for level in PRIORITIES.values()}
    oldest: dict[tuple[str, ...], float] = {(family,): 0.0 for family in families}
    for family, status, priority, count, age in sql.fetch(BY_STATUS):
        place = (family, PRIORITIES[priority])
        active[family, status] = active.get((family, status), 0) + count
        if status in {"queued", "blocked"}:
            depth[place] = depth.get(place, 0) + count
            oldest[family,] = max(oldest.get((family,), 0.0), age)
    yield gauge("genpulse_tasks_active", ["family", "status"], list(active.items()))
    yield gauge("genpulse_queue_depth", ["family", "priority"], list(depth.items()))
    yield gauge("genpulse_queue_oldest_seconds", ["family"], list(oldest.items()))


def executors() -> Iterable[Metric]:
    rows = sql.fetch(EXECUTORS)
    names = ("slots", "slots_used", "up")
    for position, name in enumerate(names, 2):
        values = [((row[0], row[1]), row[position]) for row in rows]
        yield gauge(f"genpulse_executor_{name}", ["executor", "provider"], values)
    opened = [((row[0], row[1]), row[5]) for row in rows]
    yield gauge("genpulse_circuit_open", ["executor", "provider"], opened)


def money() -> Iterable[Metric]:
    [(deposited, charged, held)] = sql.fetch(MONEY)
    [(released,)] = sql.fetch(RELEASED)
    totals = [(("deposited",), deposited), (("charged",), charged), (("released",), released)]
    yield counter("genpulse_wallet_credits", ["kind"], totals)
    yield gauge("genpulse_wallet_held_credits", [], [((), held)])


Values = Sequence[tuple[tuple[str, ...], float]]


def gauge(name: str, labels: Sequence[str], values: Values) -> Metric:
    family = GaugeMetricFamily(name, name, labels=labels)
    for place, value in values:
        family.add_metric(place, value)
    return family


def counter(name: str, labels: Sequence[str], values: Values) -> Metric:
    family = CounterMetricFamily(name, name, labels=labels)
    for place, value in values:
        family.add_metric(place, value)
    return family


def single(name: str, query: str) -> Metric:
    return gauge(name, [], [((), sql.fetch(query)[0][0])])


@read_only
def metrics(request: HttpRequest) -> HttpResponse:
    """Prometheus text. Open in development; in production METRICS_TOKEN or scope admin."""
    if config.production:
        allow(request)
    registry = CollectorRegistry()
    registry.register(Counted())
    registry.register(Database())
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def allow(request: HttpRequest) -> None:
    """Raises AuthenticationRequired, PermissionDenied and what a bad credential raises."""
    given = request.headers.get("Authorization", "")
    if config.metrics_token and hmac.compare_digest(given, f"Bearer {config.metrics_token}"):
        return
    credential: Any = from_headers(request.headers, request.META.get("REMOTE_ADDR", ""))
    if credential is None:
        raise AuthenticationRequired
    if not credential.has("admin"):
        raise PermissionDenied("This needs METRICS_TOKEN or scope admin.")
