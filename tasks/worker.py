"""The worker processes: Celery with our desk, and a shutdown of our own.

    io          threads pool, the queues of the families: adapters
    quarantine  one thread, suspect tasks only
    media       prefork pool, queue `media`: stores results, decodes, runs chores

The threads pool can neither kill nor hand over a job, so the I/O worker ends by itself: stop consuming, mark itself
draining, let calls end for SHUTDOWN_GRACE, cut the remaining sockets, record each attempt by its stage, flush, exit.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

import psutil
import structlog
from celery import signals
from celery.concurrency import get_implementation
from celery.utils.nodenames import default_nodename, host_format
from kombu.entity import Queue

from genpulse.celery import app
from genpulse.config import config
from genpulse.ids import new_id
from providers import registry
from tasks import doorbells, publish
from tasks.desk import Desk, desk, open_desk

log = structlog.get_logger(__name__)
RSS_EVERY = 5.0
CUT_PATIENCE = 5.0


def queues() -> list[str]:
    """The families this worker serves: WORKER_QUEUES, else all of them."""
    known = [family.name for family in registry.families()]
    return [name for name in config.worker_queues or known if name in known] or known


def worker_name(kind: str) -> str:
    """Celery node name; unique, because two processes may share a WORKER_ID."""
    return f"{kind}-{config.worker_id}-{os.getpid()}-{new_id().hex[-4:]}"


def run_io(*, quarantine: bool = False) -> None:
    """Consume until SIGTERM; returns when everything is recorded."""
    names = [publish.QUARANTINE] if quarantine else queues()
    threads = 1 if quarantine else config.worker_concurrency
    name = worker_name("quarantine" if quarantine else "io")

    @signals.worker_ready.connect(weak=False)
    def ready(sender: Any, **_: Any) -> None:
        open_desk(Desk(name=name, queues=names, threads=threads, quarantine=quarantine))

        def stop(_signal: int, _frame: FrameType | None) -> None:
            # The shutdown runs beside the consumer, which goes on answering the broker until the end.
            threading.Thread(target=shut_down, args=[sender], name="shutdown", daemon=True).start()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        threading.Thread(target=watch_memory, name="memory", daemon=True).start()
        if quarantine:
            threading.Thread(target=watch_idleness, name="idleness", daemon=True).start()

    consumed = names if quarantine else [*names, publish.WEBHOOKS]
    app.conf.task_queues = [
        Queue(queue, no_ack=True)  # type: ignore[no-untyped-call]
        for queue in consumed
    ]
    app.steps["consumer"].add(doorbells.Listen)
    start(name, consumed, pool="threads", concurrency=threads)


def run_media() -> None:
    """Store results and run chores until SIGTERM; prefork, so that a decoder that dies takes nobody along."""
    app.conf.update(
        task_time_limit=330,
        task_soft_time_limit=300,
        task_reject_on_worker_lost=True,
        worker_max_tasks_per_child=500,
        worker_max_memory_per_child=400_000,
        worker_soft_shutdown_timeout=config.shutdown_grace,
        worker_enable_soft_shutdown_on_idle=True,
    )
    start(worker_name("media"), [publish.MEDIA], pool="prefork", concurrency=2)


def start(name: str, names: Sequence[str], *, pool: str, concurrency: int) -> None:
    """As `celery worker` does, without its command line, which loads shells and monitors."""
    os.environ["CELERY_SKIP_CHECKS"] = (
        "true"  # they load every page; `genpulse.startup` has checked
    )
    doorbells.install()
    worker = app.Worker(
        hostname=host_format(default_nodename(f"{name}@%h")),
        pool_cls=get_implementation(pool),
        concurrency=concurrency,
        queues=list(names),
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
    )
    worker.start()
    sys.exit(worker.exitcode)


def shut_down(consumer: Any) -> None:
    at = desk()
    log.info("worker.draining", held=len(at.held))
    for name in [*at.queues, publish.WEBHOOKS]:
        consumer.call_soon(consumer.cancel_task_queue, name)
    at.drain()
    wait_for_calls(at, config.shutdown_grace)
    at.cut("shutdown")
    wait_for_calls(at, CUT_PATIENCE)
    at.close()
    # The pool's threads are not daemons: nothing else ends a process whose call hangs in a library.
    os._exit(0)


def wait_for_calls(at: Desk, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not at.idle and time.monotonic() < until:
        time.sleep(0.05)


def watch_memory() -> None:
    """A process that grew too large drains itself; its supervisor starts it anew."""
    process = psutil.Process()
    while process.memory_info().rss < config.worker_max_rss:
        time.sleep(RSS_EVERY)
    log.warning("worker.too_large", rss=process.memory_info().rss)
    os.kill(os.getpid(), signal.SIGTERM)


def watch_idleness() -> None:
    """The quarantine worker goes when nobody needs it any more."""
    at, used = desk(), time.monotonic()
    while time.monotonic() - used < config.quarantine_idle:
        time.sleep(min(config.quarantine_idle / 4, 1))
        if not at.idle:
            used = time.monotonic()
    os.kill(os.getpid(), signal.SIGTERM)
