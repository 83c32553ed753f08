"""API processes that die beside their COMMIT: E04 after it, E05 before it."""

import subprocess
import sys
from typing import Any

from tasks.models import Task
from tests.chaos.rig import Rig


def died_after(rig: Rig) -> None:
    """E04: committed, but nobody was told: every task runs, once, without the bell."""
    rig.stack.ensure("orchestrator", "media", "worker")
    executor = rig.executor(slots=32)
    _die(rig, "after", executor.name, rig.some(200))
    ids = [str(id_) for id_ in _found(executor.name)]
    assert len(ids) == rig.counts["died"]
    tasks = rig.succeeded(ids, 120)
    assert all(task.attempt == 1 for task in tasks)
    rig.hit("died between COMMIT and bell", rig.counts["died"], rig.some(200))
    rig.finish("E04 died after COMMIT")


def died_before(rig: Rig) -> None:
    """E05: inserted, never committed: nothing is left, no money is held."""
    executor = rig.executor(slots=32)
    _die(rig, "before", executor.name, rig.some(200))
    assert _found(executor.name) == []
    rig.hit("died between INSERT and COMMIT", rig.counts["died"], rig.some(200))
    rig.finish("E05 died before COMMIT")


def _found(executor: str) -> list[Any]:
    return list(
        Task.objects.filter(taskcontent__options__executor__only=[executor]).values_list(
            "id", flat=True
        )
    )


def _die(rig: Rig, when: str, executor: str, count: int) -> None:
    who = rig.owner()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.chaos.dying",
            when,
            executor,
            who.user.name,
            str(count),
        ],
        env=rig.stack.environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rig.counts["died"] = int(done.stdout.split()[-1])
