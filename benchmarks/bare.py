"""Bare Celery: the baseline of P1 and P3. No-op jobs that count themselves, late ack, nothing else."""

import os
import queue
import sys
import threading
import time
from typing import Any

import redis
from celery import Celery
from celery.signals import worker_ready

done_key, hops_key = "bench:done", "bench:hops"
app = Celery("bare", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    task_default_queue="bare",
)
_live = redis.Redis.from_url(os.environ["REDIS_LIVE_URL"])
_done: queue.SimpleQueue[int] = queue.SimpleQueue()


def _report() -> None:
    """Counting costs one increment every 10 ms, whatever the number of jobs."""
    while True:
        time.sleep(0.01)
        count = _done.qsize()
        for _ in range(count):
            _done.get()
        if count:
            _live.incrby(done_key, count)


@worker_ready.connect
def _start(**_: Any) -> None:
    threading.Thread(target=_report, daemon=True).start()


@app.task(name="bench.noop")
def noop(number: int) -> None:
    """Nothing but being counted."""
    _done.put(number)


@app.task(name="bench.hop")
def hop(sent: float) -> None:
    """How long the message took, in seconds, into a list."""
    _live.rpush(hops_key, time.time() - sent)


def command(name: str, threads: int = 64) -> list[str]:
    """A worker for these jobs, as it is started for the baselines."""
    worker = [sys.executable, "-m", "celery", "-A", "benchmarks.bare:app", "worker", "-Q", "bare"]
    pool = ["--pool=threads", f"--concurrency={threads}", "--without-gossip", "--without-mingle"]
    return [*worker, *pool, "-l", "ERROR", "-n", f"{name}@%h"]
