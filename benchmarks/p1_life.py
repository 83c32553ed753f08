"""P1: full lives of tasks per second, against bare Celery no-op jobs on the same broker and processes.

A life: durable submit, hold, fair admission, Celery, sandbox at zero latency, text result, settlement, events; 20
tenants, one bench executor of 512 slots. The baseline publishes and consumes no-op jobs at once, late ack, no result
backend, no database. Runs alternate; the medians are compared.
"""

import argparse
import os
import time
from typing import Any

from benchmarks import cast, tenants
from benchmarks.ground import Ground, started
from benchmarks.report import report

TENANTS = 20
CHUNK = 100


def lives(count: int) -> float:
    """Seconds from the first submit to the last settlement of `count` tasks."""
    from tasks.models import Task

    who = tenants.actors(TENANTS)
    started_at = time.monotonic()
    tenants.submit(who, count, cast.text_task(latency=0, text="ok"))
    while Task.objects.filter(finished_at=None).exists():
        time.sleep(0.02)
    seconds = time.monotonic() - started_at
    assert not Task.objects.exclude(status="succeeded").exists()
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
    from benchmarks.bare import command

    with started([command(f"bare-{number}") for number in range(options.workers)]):
        bare(50)  # warm
        return bare(options.tasks)


def run_lives(ground: Any, options: argparse.Namespace) -> float:
    cast.executor()
    with ground.processes("orchestrator", *["worker"] * options.workers):
        lives(50)  # warm
        return lives(options.tasks)


if __name__ == "__main__":
    main()
