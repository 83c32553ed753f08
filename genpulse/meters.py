"""The meters that processes move themselves, shared by files: every process of a machine writes its own, `/metrics` adds them up.

What the database knows better (how many wait, who holds slots, how much is frozen) is asked of it at scrape time, in
`genpulse.metrics`. Names and labels are those of docs/metrics.md.
"""

import os

from genpulse.config import config

FOLDER = config.data_dir / "metrics"
FOLDER.mkdir(parents=True, exist_ok=True)
# Read when prometheus_client is imported; it decides how values are kept.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(FOLDER)

from prometheus_client import Counter, Gauge, Histogram  # noqa: E402 - after the line above

SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)
SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)

http_requests = Counter(
    "genpulse_http_requests", "Requests answered", ["door", "route", "method", "status"]
)
http_seconds = Histogram(
    "genpulse_http_request_seconds", "Time to answer", ["door", "route", "method"], buckets=SHORT
)
submitted = Counter("genpulse_tasks_submitted", "Tasks accepted", ["family", "source"])
ended = Counter(
    "genpulse_tasks", "Tasks that reached an end", ["family", "provider", "status", "source"]
)
queue_wait = Histogram(
    "genpulse_queue_wait_seconds",
    "Submit to first start",
    ["family", "priority"],
    buckets=SECONDS,
)
duration = Histogram(
    "genpulse_task_duration_seconds",
    "Start to end of the last attempt",
    ["family", "provider", "task_type"],
    buckets=SECONDS,
)
attempts = Counter("genpulse_attempts", "Attempts that ended", ["provider", "outcome"])
retries = Counter("genpulse_retries", "Attempts followed by another one", ["provider", "kind"])
failovers = Counter("genpulse_failovers", "Tasks sent to another executor", ["family"])
provider_errors = Counter("genpulse_provider_errors", "Errors of providers", ["provider", "kind"])
provider_seconds = Histogram(
    "genpulse_provider_request_seconds",
    "Calls of adapters",
    ["provider", "operation"],
    buckets=SECONDS,
)
fenced = Counter("genpulse_fenced", "Moves refused because they came too late", ["action"])
healed = Counter("genpulse_healed", "What a sweep put right", ["reason"])
tick_seconds = Histogram(
    "genpulse_tick_seconds", "Rounds of the orchestrator", ["loop"], buckets=SHORT
)
audit_violations = Gauge(
    "genpulse_audit_violations",
    "Rows that break an invariant, by the last audit",
    ["invariant"],
    multiprocess_mode="mostrecent",
)
admit_seconds = Histogram("genpulse_admit_round_seconds", "Admission rounds", buckets=SHORT)
group_size = Histogram(
    "genpulse_recorder_group_size", "Moves in one commit", buckets=(1, 2, 4, 8, 16, 32, 64)
)

ALL = (
    *(http_requests, http_seconds, submitted, ended, queue_wait, duration, attempts, retries),
    *(failovers, provider_errors, provider_seconds, fenced, healed, tick_seconds),
    *(audit_violations, admit_seconds, group_size),
)
