"""Several orchestrators: one leads, the others wait; places are never given twice: E26, SLOTS."""

import signal
import time

from django.db import connection

from genpulse import sql
from tasks.models import Chore, OrchestratorLease
from tests.chaos.rig import HEALED, Rig, eventually, meanwhile, patiently
from tests.chaos.vendors import Painter

ORCHESTRATORS = ("orchestrator", "orchestrator-2", "orchestrator-3")
IN_USE = """
SELECT count(*), e.max_concurrency FROM tasks_attempt a JOIN admin_integrations_executor e ON e.id = a.executor_id
WHERE a.slot GROUP BY e.id
"""


def leader(rig: Rig) -> str:
    """The name of the process that leads just now."""

    def found() -> str:
        pids = OrchestratorLease.objects.extra(where=["until > clock_timestamp()"]).values_list(
            "holder", flat=True
        )
        by_pid = {str(process.pid): name for name, process in rig.stack.processes.items()}
        return next((by_pid.get(holder.split(":")[1], "") for holder in pids), "")

    return str(patiently(lambda: eventually(found)))


def epoch() -> int:
    return int(OrchestratorLease.objects.values_list("epoch", flat=True)[0])


def leaders_die(rig: Rig) -> None:
    """E26: the leader is killed, or sleeps until another leads and wakes up: admission goes on, chores keep their pace."""
    rig.stack.ensure(*ORCHESTRATORS, "media", "worker")
    who, sandbox = rig.owner(), rig.executor(slots=4)
    ids: list[str] = []
    for round_ in range(rig.some(30, 2)):
        ids += rig.submit(who, "sandbox-text", sandbox, 10, vary=lambda _: {"latency": 0.2})
        name, before, gone = leader(rig), epoch(), time.monotonic()
        if round_ % 3 == 1:
            rig.stack.processes[name].send_signal(signal.SIGSTOP)
        else:
            rig.restart(name)
        eventually(lambda before=before: epoch() > before)  # type: ignore[misc]
        rig.counts["slowest take-over ms"] = max(
            rig.counts["slowest take-over ms"], int((time.monotonic() - gone) * 1000)
        )
        if round_ % 3 == 1:
            rig.stack.processes[name].send_signal(signal.SIGCONT)
            rig.counts["leaders woken"] += 1
    tasks = rig.succeeded(ids, 200)
    assert all(task.attempt == 1 for task in tasks), "a zombie admitted what another had"
    stale = "SELECT count(*) FROM tasks_chore WHERE last_run < now() - 3 * make_interval(secs => every) - interval '10 s'"
    assert sql.fetch(stale)[0][0] == 0 or not Chore.objects.exists()
    rig.hit("leaders killed", rig.counts["killed orchestrator"], rig.some(20, 1))
    rig.hit("leaders woken after another led", rig.counts["leaders woken"], rig.some(10, 1))
    rig.finish("E26 leaders die")


def places_kept(rig: Rig) -> None:
    """SLOTS: three workers, two orchestrators, a broker that forgets and leaders that die: no place is given twice.

    The vendor counts for itself how many pictures it paints at once.
    """
    rig.stack.ensure(*ORCHESTRATORS[:2], "media", "worker", "worker-2", "worker-3")
    broken: list[tuple[int, int]] = []
    with Painter() as painter:
        who, sandbox = rig.owner(), rig.executor(slots=3)
        painting = rig.executor("openai", painter.base, slots=5)

        def look() -> None:
            rows = sql.fetch(IN_USE)
            broken.extend(row for row in rows if row[0] > row[1])
            rig.counts["looks"] += 1
            rig.counts["looks at full places"] += sum(row[0] == row[1] for row in rows)

        def disturb() -> None:
            with rig.broker as broker:
                broker.flushall()
            rig.counts["flushed"] += 1
            if rig.counts["killed orchestrator"] < rig.some(20):
                rig.restart(leader(rig))
            connection.close()

        with meanwhile(look, lambda: 0.02), meanwhile(disturb, lambda: rig.random.uniform(0.5, 2)):
            ids = rig.submit(
                who, "sandbox-text", sandbox, rig.some(200), vary=lambda _: {"latency": 0.1}
            )
            ids += rig.submit(who, "gpt-image-2", painting, rig.some(300))
            eventually(lambda: rig.counts["flushed"] >= rig.some(20, 2), 200)
            rig.succeeded(ids, 300)
        assert not broken, broken[:3]
        assert painter.busiest <= 5
        assert painter.doubles() == []
    rig.counts["pictures at once"] = painter.busiest
    rig.hit("all places taken", rig.counts["looks at full places"], rig.some(20))
    rig.hit("leaders killed", rig.counts["killed orchestrator"], 1)
    rig.hit("messages sent again", rig.count(HEALED, ids), by_chance=True)
    rig.finish("SLOTS places kept")
