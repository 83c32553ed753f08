"""API processes that die beside their COMMIT: E04 after it, E05 before it.

    python -m tests.chaos.commits {before|after} EXECUTOR USER COUNT

forks COUNT processes, each of which submits one task and dies there.
"""

import os
import subprocess
import sys
from typing import Any

from tasks.models import Task
from tests.chaos.rig import Rig

MINE = "SELECT 1 FROM tasks_task WHERE xmin::text = pg_current_xact_id()::xid::text"
DIED = 9


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
            "tests.chaos.commits",
            when,
            executor,
            who.user.username,
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


def main(when: str, executor: str, user: str, count: str) -> None:
    import django

    django.setup()
    died = sum(_forked(when, executor, user) == DIED for _ in range(int(count)))
    print(died)  # noqa: T201 - the answer


def _forked(when: str, executor: str, user: str) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _submit(when, executor, user)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _submit(when: str, executor: str, user: str) -> None:
    from tests.integration.cast import caller

    who = caller(user, "tasks", "read")
    _die_at_commit(when)
    who.post(
        "/api/v1/tasks",
        {
            "model": "sandbox-text",
            "input": {"prompt": "x", "sandbox": {"latency": 0}},
            "executor": {"only": [executor]},
        },
    )


def _die_at_commit(when: str) -> None:
    from django.db.backends.postgresql.base import DatabaseWrapper

    from genpulse import sql

    commit = DatabaseWrapper.commit

    def dying(self: Any) -> None:
        if not sql.fetch(MINE):
            commit(self)
            return
        if when == "after":
            commit(self)
        os._exit(DIED)

    DatabaseWrapper.commit = dying


if __name__ == "__main__":
    main(*sys.argv[1:])
