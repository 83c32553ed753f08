"""Cancels at any moment, and a database that goes away: E22, E23."""

import signal
import time
from collections import Counter
from typing import Any

from django.db import Error as DatabaseError
from django.db import connection

from genpulse import sql
from tasks.models import Attempt, Task
from tests.chaos.rig import Rig, meanwhile, patiently
from tests.chaos.vendors import Painter

KILL = """
SELECT count(pg_terminate_backend(pid)) FROM (
  SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
  ORDER BY random() LIMIT 3) AS chosen
"""


def canceled_at_random(rig: Rig) -> None:
    """E22: a cancel wins or loses, never both."""
    rig.stack.ensure("orchestrator", "media", *rig.crew)
    with Painter() as painter:
        who, sandbox = rig.owner(), rig.executor(slots=8)
        painting = rig.executor("openai", painter.base, slots=4, verify_ttl=5)
        rounds = rig.some(50)
        ids: list[str] = []
        asked: set[str] = set()
        seen: Counter[str] = Counter()

        def cancel() -> None:
            fresh = [task for task in ids[-100:] if task not in asked]
            if not fresh or len(asked) > 2 * len(ids) // 3:
                return
            task = rig.random.choice(fresh)
            asked.add(task)
            seen[Task.objects.values_list("status", flat=True).get(pk=task)] += 1
            assert who.post(f"/api/v1/tasks/{task}/cancel").status_code in {200, 202}

        with meanwhile(cancel, lambda: rig.random.uniform(0, 0.02)):
            for _ in range(rounds):
                ids += rig.submit(who, "sandbox-text", sandbox, 10, vary=lambda _: {"latency": 0.6})
                ids += rig.submit(
                    who,
                    "sandbox-image",
                    sandbox,
                    5,
                    vary=lambda n: {"mode": "accept", "latency": n % 3 / 3},
                )
                ids += rig.submit(who, "gpt-image-2", painting, 5)
            tasks = rig.ended(ids, 300)
        assert painter.doubles() == []
    for task in tasks:
        assert task.charged == (task.quoted if task.status == "succeeded" else 0), task.id
    for status, number in seen.items():
        rig.counts[f"canceled while {status}"] += number
    rig.counts["late attempts"] = Attempt.objects.filter(task_id__in=ids, late=True).count()
    in_flight = seen["running"] + seen["awaiting"] + seen["admitted"]
    rig.hit("canceled while waiting", seen["queued"], by_chance=True)
    rig.hit("canceled in flight", in_flight, by_chance=True)
    rig.finish("E22 cancel")


def database_down(rig: Rig) -> None:
    """E23: backends are killed, and (where the server is ours alone) the server stops at once, again and again."""
    rig.stack.ensure("orchestrator", "media", *rig.crew)
    who, sandbox = rig.owner(), rig.executor(slots=32)
    accepted: list[str] = []
    refusals = 0
    stops = rig.some(20) if rig.postgres else 0
    until_stop = time.monotonic() + 2

    def submit() -> None:
        nonlocal refusals
        try:
            accepted.extend(
                rig.submit(who, "sandbox-text", sandbox, 1, vary=lambda _: {"latency": 0.2})
            )
        except (AssertionError, DatabaseError):
            connection.close()  # refused, or cut: nothing was promised
            refusals += 1

    with meanwhile(submit, lambda: 0.01):
        while (
            rig.counts["stops"] < stops
            or rig.counts["backends killed"] < rig.some(200)
            or len(accepted) < rig.some(300)
        ):
            _kill_backends(rig)
            if stops > rig.counts["stops"] and time.monotonic() > until_stop:
                _stop_at_once(rig)
                until_stop = time.monotonic() + 2
            time.sleep(0.3)
    rig.counts["refused"] = refusals
    tasks = rig.ended(accepted, 300)
    assert {task.status for task in tasks} == {"succeeded"}
    rig.hit("backends killed", rig.counts["backends killed"], rig.some(200))
    rig.hit("accepted in the storm", len(accepted), rig.some(300))
    rig.finish("E23 database down")


def _kill_backends(rig: Rig) -> None:
    rows: list[Any] = patiently(lambda: sql.fetch(KILL))
    rig.counts["backends killed"] += rows[0][0]
    rig.counts["rounds of kills"] += 1


def _stop_at_once(rig: Rig) -> None:
    assert rig.postgres is not None
    rig.postgres.kill(signal.SIGQUIT)  # what `pg_ctl -m immediate` sends
    rig.counts["stops"] += 1
    time.sleep(rig.random.uniform(0, 1))
    rig.postgres.start()
