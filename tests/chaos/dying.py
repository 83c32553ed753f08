"""Processes that submit one task each and die beside its COMMIT.

python -m tests.chaos.dying {before|after} EXECUTOR USER COUNT
"""

import os
import sys
from typing import Any

MINE = "SELECT 1 FROM tasks_task WHERE xmin::text = pg_current_xact_id()::xid::text"
DIED = 9


def main(when: str, executor: str, user: str, count: str) -> None:
    import django
    from django.urls import get_resolver

    django.setup()
    import tests.integration.cast  # noqa: F401 - here, and not in each that dies

    get_resolver().url_patterns  # noqa: B018 - loads every view
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

    setattr(DatabaseWrapper, "commit", dying)  # noqa: B010 - mypy: methods are not assigned


if __name__ == "__main__":
    main(*sys.argv[1:])
