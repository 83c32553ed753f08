"""P1: full lives of tasks per second, against bare Celery no-op jobs on the same broker and processes.

A life: durable submit, hold, fair admission, Celery, sandbox at zero latency, text result, settlement, events; 20
tenants, one bench executor of 512 slots. The baseline publishes and consumes no-op jobs at once, late ack, no result
backend, no database. Runs alternate; the medians are compared.
"""

import argparse
import os
import subprocess
import sys
import time
from typing import Any

from benchmarks.ground import Ground
from benchmarks.report import report

TENANTS = 20
CHUNK = 100


def lives(count: int) -> float:
    """Seconds from the first submit to the last settlement of `count` tasks."""
    from django.db import connection, transaction

    from genpulse.auth import services as auth
    from tasks import drafts, services
    from tasks.drafts import Actor
    from tasks.models import Task
    from tasks.requests import TaskBody
    from wallet import services as wallet

    actors = []
    for number in range(TENANTS):
        user = auth.get_or_create_user(f"tenant-{number}")
        wallet.deposit(user.account_id, 10**12, reason="bench")
        actors.append(Actor(account_id=user.account_id, account=user.name))
    body = TaskBody(
        model="sandbox-text", input={"prompt": "hi", "sandbox": {"latency": 0, "text": "ok"}}
    )
    started = time.monotonic()
    for start in range(0, count, CHUNK):
        actor = actors[(start // CHUNK) % TENANTS]
        made = [drafts.draft(actor, body) for _ in range(min(CHUNK, count - start))]
        with transaction.atomic():
            services.write(actor, made)
    while Task.objects.filter(finished_at=None).exists():
        time.sleep(0.02)
    seconds = time.monotonic() - started
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM tasks_task WHERE status <> 'succeeded' AND family = 'sandbox'"
        )
        assert cursor.fetchone()[0] == 0
    return seconds


def bare(count: int) -> float:
    """Seconds to publish and consume `count` no-op jobs."""
    import redis

    from benchmarks.bare import app, done_key, noop

    client = redis.Redis.from_url(os.environ["REDIS_LIVE_URL"])
    client.delete(done_key)
    started = time.monotonic()
    with app.producer_pool.acquire(block=True) as producer:
        for start in range(0, count, CHUNK):
            with producer.batch():
                for number in range(start, min(start + CHUNK, count)):
                    noop.apply_async((number,), producer=producer, retry=False)
    while int(client.get(done_key) or 0) < count:
        time.sleep(0.02)
    return time.monotonic() - started


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tasks", type=int, default=3000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with Ground() as ground:
        ours, theirs = [], []
        for _ in range(options.runs):
            theirs.append(options.tasks / run_bare(options))
            ours.append(options.tasks / run_lives(ground, options))
        report("P1", "lives per second", ours, theirs)


def run_bare(options: argparse.Namespace) -> float:
    pool = ["--pool=threads", "--concurrency=64", "--without-gossip", "--without-mingle"]
    command = [sys.executable, "-m", "celery", "-A", "benchmarks.bare:app", "worker", "-Q", "bare"]
    workers = [
        subprocess.Popen(
            [*command, *pool, "-l", "ERROR", "-n", f"bare-{number}@%h"], stdout=subprocess.DEVNULL
        )
        for number in range(options.workers)
    ]
    try:
        bare(50)  # warm
        return bare(options.tasks)
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


def run_lives(ground: Any, options: argparse.Namespace) -> float:
    from admin_integrations.models import Executor

    Executor.objects.get_or_create(
        name="bench", defaults={"type": "sandbox", "max_concurrency": 512}
    )
    with ground.processes("orchestrator", *["worker"] * options.workers):
        lives(50)  # warm
        return lives(options.tasks)


if __name__ == "__main__":
    main()
