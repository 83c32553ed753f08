"""Processes that die, freeze or are told to go: E01, E08, E11, E27."""

import signal
import time
from collections import Counter
from functools import partial

from django.db.models import QuerySet

from genpulse import sql
from tasks.models import Attempt, Task, Worker
from tests.chaos.rig import HEALED, REPLACED, Rig, eventually, meanwhile
from tests.chaos.vendors import Painter

WORKERS = ("worker", "worker-2", "worker-3", "worker-4")
BUSY = "SELECT DISTINCT worker FROM tasks_attempt WHERE stage IN ('claimed', 'sending') AND lease_until > now()"
LEFT = """
SELECT count(*) FROM tasks_attempt WHERE task_id = ANY(%s) AND (outcome = 'replaced' OR error->>'kind' = 'unknown_outcome')
"""
CRASHED = "SELECT coalesce(sum(crashes), 0) FROM tasks_task WHERE id = ANY(%s)"


def gone(rows: QuerySet[Attempt]) -> bool:
    return not rows.exists()


def killed_processes(rig: Rig) -> None:
    """E01: kill -9 of a worker that holds work, and now and then of the others, while free and paid tasks run."""
    names = WORKERS if rig.scale >= 1 else WORKERS[:2]
    rig.stack.ensure("orchestrator", "media", *names)
    free: list[str] = []
    paid: list[str] = []
    with Painter() as painter:
        who, sandbox = rig.owner(), rig.executor(slots=32)
        painting = rig.executor("openai", painter.base, slots=32, verify_ttl=5)
        for round_ in range(rig.some(200)):
            free += rig.submit(who, "sandbox-text", sandbox, 5, vary=lambda _: {"latency": 0.3})
            free += rig.submit(who, "sandbox-image", sandbox, 1, vary=lambda _: {"mode": "accept"})
            paid += rig.submit(who, "gpt-image-2", painting, 4)
            time.sleep(rig.random.uniform(0.05, 0.4))
            rig.restart(_victim(rig, names, round_))
        rig.ended([*free, *paid], 400)
        assert painter.doubles() == []
        rig.counts["paid creates"] = painter.creates().total()
    _only_unknown_failed(free, paid)
    ids = [*free, *paid]
    rig.hit("workers died under tasks", rig.count(LEFT, ids), rig.some(100))
    rig.hit("lost messages sent again", rig.count(HEALED, ids), rig.some(10), by_chance=True)
    rig.finish("E01 killed processes")


def every_child(rig: Rig) -> None:
    """E01, in turn: each process and each server that is ours is killed while 200 tasks run; afterwards nothing is missing."""
    names = ["worker", "worker-2", "media", "orchestrator"]
    rig.stack.ensure(*names)
    who, sandbox = rig.owner(), rig.executor(slots=8)
    ids: list[str] = []
    running = Attempt.objects.filter(stage__in=["claimed", "accepted"])
    for name in rig.random.sample(names, len(names)):
        ids += rig.submit(
            who, "sandbox-text", sandbox, rig.some(40), vary=lambda _: {"latency": 0.4}
        )
        ids += rig.submit(
            who, "sandbox-image", sandbox, rig.some(10), vary=lambda _: {"mode": "accept"}
        )
        eventually(running.exists)
        rig.restart(name)
        rig.counts["kills while tasks ran"] += running.exists()
    for server, sig in ((rig.valkey, signal.SIGKILL), (rig.postgres, signal.SIGQUIT)):
        if server is not None:
            server.kill(sig)
            server.start()
            rig.counts["servers killed"] += 1
    rig.succeeded(ids, 300)
    assert all(process.poll() is None for process in rig.stack.processes.values())
    after = rig.submit(who, "sandbox-image", sandbox, 4)
    rig.succeeded(after, 60)
    rig.hit("kills while tasks ran", rig.counts["kills while tasks ran"], 2)
    rig.finish("CHILDREN every child in turn")


def _victim(rig: Rig, names: tuple[str, ...], round_: int) -> str:
    """Mostly a worker that holds work just now."""
    if round_ % 10 == 9:
        return rig.random.choice(["media", "orchestrator"])

    def busy() -> list[str]:
        pids = {row[0].split("-")[-2] for row in sql.fetch(BUSY)}
        return [name for name in names if str(rig.stack.processes[name].pid) in pids]

    return rig.random.choice(eventually(busy))


def _only_unknown_failed(free: list[str], paid: list[str]) -> None:
    """A paid create without look-up may end as unknown; everything else succeeds."""
    wrong = Task.objects.filter(pk__in=free).exclude(status="succeeded")
    assert not wrong.exists(), [task.id for task in wrong[:5]]
    errors = Counter(
        (task.status, error and error["code"])
        for task, error in (
            (task, task.taskcontent.error)
            for task in Task.objects.filter(pk__in=paid).select_related("taskcontent")
        )
    )
    assert set(errors) <= {("succeeded", None), ("failed", "outcome_unknown")}, errors


def frozen_worker(rig: Rig) -> None:
    """E08: a worker sleeps longer than its leases, others take over, it wakes up: a zombie writes nothing."""
    rig.stack.ensure("orchestrator", "media", "worker", "worker-2")
    recovered: list[float] = []
    with Painter() as painter:
        painter.slowness = 1.0
        who, sandbox = rig.owner(), rig.executor(slots=32)
        painting = rig.executor("openai", painter.base, slots=32, verify_ttl=5)
        ids: list[str] = []
        for _ in range(rig.some(8)):
            frozen = rig.stack.processes["worker"]
            for name in ("worker", "worker-2"):
                eventually(partial(_signed_on, rig.stack.processes[name].pid))
            ids += rig.submit(who, "sandbox-text", sandbox, 20, vary=lambda _: {"latency": 3})
            ids += rig.submit(who, "gpt-image-2", painting, 10)
            held = Attempt.objects.filter(
                worker__contains=f"-{frozen.pid}-", stage__in=["claimed", "sending"]
            )
            eventually(held.exists)
            frozen.send_signal(signal.SIGSTOP)
            stopped = time.monotonic()
            eventually(partial(gone, held))
            recovered.append(time.monotonic() - stopped)
            time.sleep(rig.random.uniform(0, 1))
            frozen.send_signal(signal.SIGCONT)
            rig.counts["frozen"] += 1
            rig.ended(ids)
        assert painter.doubles() == []
    lease = float(rig.stack.environment["LEASE_SECONDS"])
    rig.counts["slowest recovery ms"] = int(max(recovered) * 1000)
    rig.counts["lease ms"] = int(lease * 1000)
    rig.hit("attempts taken from a frozen worker", rig.count(LEFT, ids))
    rig.finish("E08 frozen worker")


def _signed_on(pid: int) -> bool:
    return Worker.objects.filter(name__contains=f"-{pid}-").exists()


def poison(rig: Rig) -> None:
    """E11: tasks that kill their worker each time, beside healthy ones on the same worker."""
    rig.stack.ensure("orchestrator", "media", "worker")
    who, sandbox = rig.owner(), rig.executor(slots=32)
    deadly = rig.submit(
        who, "sandbox-text", sandbox, rig.some(10), vary=lambda _: {"latency": 0, "crash": True}
    )
    healthy = rig.submit(
        who, "sandbox-text", sandbox, rig.some(500), vary=lambda _: {"latency": 0.1}
    )

    def revive() -> None:
        if rig.stack.processes["worker"].poll() is not None:
            rig.counts["workers died"] += 1
            rig.stack.start("worker")

    with meanwhile(revive, lambda: 0.2):
        ended = rig.ended(deadly, 600)
        rig.succeeded(healthy, 300)
    for task in ended:
        assert (task.taskcontent.error or {})["code"] == "poison_task"
        assert [task.status, task.charged, task.alone_crashes, task.tries] == ["failed", 0, 3, 0]
        assert task.crashes >= 2
    rig.hit("healthy tasks died with their worker", rig.count(CRASHED, healthy))
    rig.finish("E11 poison")


def rolling_deploy(rig: Rig) -> None:
    """E27: workers are stopped in order, one after the other, while calls last longer than their grace."""
    rig.stack.ensure("orchestrator", "media", "worker", "worker-2")
    grace = float(rig.stack.environment["SHUTDOWN_GRACE"])
    with Painter() as painter:
        who, sandbox = rig.owner(), rig.executor(slots=32)
        painting = rig.executor("openai", painter.base, slots=8, verify_ttl=5)
        slow = rig.submit(
            who, "sandbox-text", sandbox, rig.some(300), vary=lambda _: {"latency": 2 * grace}
        )
        quick = rig.submit(
            who, "sandbox-text", sandbox, rig.some(200), vary=lambda _: {"latency": grace / 4}
        )
        paid = rig.submit(who, "gpt-image-2", painting, rig.some(50))
        for _ in range(rig.some(6, 2)):
            eventually(lambda: Attempt.objects.filter(stage="claimed").count() > 4, 120)
            for name in ("worker", "worker-2"):
                _stop_in_order(rig, name, grace)
        rig.succeeded(quick, 300)
        rig.succeeded(paid, 300)
        rig.succeeded(slow, 300)
        assert painter.doubles() == []
    handed_back = rig.count(REPLACED, slow)
    assert not Task.objects.filter(pk__in=[*slow, *quick, *paid], crashes__gt=0).exists()
    rig.hit("calls cut and handed back", handed_back)
    rig.finish("E27 rolling deploy")


def _stop_in_order(rig: Rig, name: str, grace: float) -> None:
    """SIGTERM: gone within the grace and three seconds, or the experiment fails."""
    process = rig.stack.processes[name]
    eventually(partial(_signed_on, process.pid))
    rig.stack.processes.pop(name)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert process.wait(grace + 3) == 0
    rig.counts["stopped"] += 1
    rig.counts["slowest stop ms"] = max(
        rig.counts["slowest stop ms"], int((time.monotonic() - began) * 1000)
    )
    rig.stack.start(name)
