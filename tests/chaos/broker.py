"""A broker that forgets, dies, doubles, reorders and hangs up: E02, E03, E06, E07, E10."""

import signal
import time
from uuid import UUID

from genpulse import sql
from tasks import publish
from tasks.models import Attempt
from tests.chaos.rig import HEALED, Rig, eventually, meanwhile
from tests.chaos.vendors import Painter

SEEN = "SELECT task_id, number, family FROM tasks_attempt WHERE task_id = ANY(%s)"


def flushed(rig: Rig) -> None:
    """E02: everything the broker and the live store know is gone, again and again."""
    rig.stack.ensure("orchestrator", "media", *rig.crew)
    who, sandbox = rig.owner(), rig.executor(slots=32)

    def flush() -> None:
        with rig.broker as broker:
            broker.flushall()
        rig.counts["flushed"] += 1

    with meanwhile(flush, lambda: rig.random.uniform(0.02, 0.2)):
        ids = rig.submit(
            who, "sandbox-text", sandbox, rig.some(1000), vary=lambda _: {"latency": 0.1}
        )
        eventually(lambda: rig.counts["flushed"] >= rig.some(20))
        tasks = rig.succeeded(ids, 300)
    assert all(task.crashes == 0 for task in tasks)
    rig.hit("messages sent again", rig.count(HEALED, ids), by_chance=True)
    rig.finish("E02 flushed broker")


def broker_down(rig: Rig) -> None:
    """E03: the broker dies and comes back empty; the API goes on accepting, at once."""
    assert rig.valkey is not None
    rig.stack.ensure("orchestrator", "media", "worker")
    who, sandbox = rig.owner(), rig.executor(slots=32)
    ids: list[str] = []
    per_outage = max(rig.some(500) // rig.some(10, 2), 4)
    for _ in range(rig.some(10, 2)):
        ids += rig.submit(who, "sandbox-text", sandbox, per_outage, vary=lambda _: {"latency": 0.2})
        rig.valkey.kill(signal.SIGKILL)
        down = time.monotonic()
        ids += rig.submit(who, "sandbox-text", sandbox, per_outage, vary=lambda _: {"latency": 0.2})
        rig.counts["accepted while down"] += per_outage
        time.sleep(max(5 * min(rig.scale, 1) - (time.monotonic() - down), 0.5))
        rig.valkey.start()
        rig.counts["outages"] += 1
    tasks = rig.succeeded(ids, 300)
    assert all(task.crashes == 0 for task in tasks)
    rig.hit("accepted without a broker", rig.counts["accepted while down"])
    rig.finish("E03 broker down")


def doubled(rig: Rig) -> None:
    """E06: every message comes three more times, in any order, late and early."""
    rig.stack.ensure("orchestrator", "media", *rig.crew)
    copied: set[tuple[UUID, int]] = set()
    with Painter() as painter:
        who = rig.owner()
        painting = rig.executor("openai", painter.base, slots=32)
        ids: list[str] = []

        def copy() -> None:
            new = [
                (row[0], row[1], row[2]) for row in sql.fetch(SEEN, [ids]) if row[:2] not in copied
            ]
            messages = [
                message
                for row in new
                for _ in range(3)
                for message in publish.submits([(*row, rig.random.randrange(3))])
            ]
            rig.random.shuffle(messages)
            if publish.publish(messages):
                copied.update(row[:2] for row in new)
                rig.counts["copies"] += len(messages)

        with meanwhile(copy, lambda: 0.02):
            ids += rig.submit(who, "gpt-image-2", painting, rig.some(1000))
            rig.succeeded(ids, 300)
            eventually(lambda: len(copied) >= len(ids))
        assert painter.doubles() == []
        assert painter.creates().total() == len(ids)
    # All copies were taken by somebody, and none of them did anything.
    eventually(lambda: rig.queued("openai") == 0)
    rig.hit("claims refused", rig.counts["copies"], 3 * len(ids) // 2)
    rig.finish("E06 doubled messages")


def hung_up(rig: Rig) -> None:
    """E07: all connections to the broker are cut while long calls run: nothing is done twice, whatever comes again."""
    rig.stack.ensure("orchestrator", "media", *rig.crew)
    with Painter() as painter:
        painter.slowness = max(20 * rig.scale, 8)
        who, painting = rig.owner(), rig.executor("openai", painter.base, slots=24)
        before = rig.refused()
        ids = rig.submit(who, "gpt-image-2", painting, rig.some(192))
        busy = Attempt.objects.filter(stage="sending", task_id__in=ids)
        eventually(lambda: busy.count() >= min(len(ids), 16) // 2)

        def cut() -> None:
            with rig.broker as broker:
                for kind in ("normal", "pubsub"):
                    broker.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
            rig.counts["cuts"] += busy.exists()

        with meanwhile(cut, lambda: 2 * min(rig.scale * 2, 1)):
            eventually(lambda: rig.counts["cuts"] >= rig.some(30), 120)
        rig.succeeded(ids, 300)
        assert painter.doubles() == []
    rig.counts["delivered again"] = rig.refused() - before
    rig.hit("cuts while calls ran", rig.counts["cuts"], rig.some(30))
    rig.finish("E07 hung up")


def visible_again(rig: Rig) -> None:
    """E10: calls last several times longer than the broker would wait for an acknowledgement. The stack has
    VISIBILITY_TIMEOUT 3; jobs are not acknowledged at all, so none comes again."""
    rig.stack.ensure("orchestrator", "media", *rig.crew)
    with Painter() as painter:
        who, sandbox = rig.owner(), rig.executor(slots=32)
        painting = rig.executor("openai", painter.base, slots=16)
        before = rig.refused()
        ids = rig.submit(who, "sandbox-text", sandbox, rig.some(40), vary=lambda _: {"latency": 15})
        painter.slowness = 15
        ids += rig.submit(who, "gpt-image-2", painting, rig.some(10))
        tasks = rig.succeeded(ids, 300)
        assert painter.doubles() == []
    assert all(task.attempt == 1 for task in tasks)
    rig.counts["delivered again"] = rig.refused() - before
    assert not rig.counts["delivered again"]
    rig.hit("calls outlived the time-out", len(tasks), rig.some(50))
    rig.finish("E10 visible again")
