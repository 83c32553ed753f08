"""P5: admissions per second while a million tasks of 1 000 tenants wait, against 1 000 tasks of as many tenants.

Rounds of admission run in this process as in the orchestrator, for one executor with room and one worker with
threads. The small backlog is measured before and after the large one; all rows are written by SQL.
"""

import argparse
import time
from uuid import UUID

from benchmarks import cast, tenants
from benchmarks.ground import Ground
from benchmarks.report import report

TENANTS = 1000
ROUND = 1000  # tasks admitted in one run
PEOPLE = """
INSERT INTO accounts_account ({columns}) SELECT {values} FROM accounts_account a, generate_series(2, %s) n WHERE a.name = %s
"""
BACKLOG = """
INSERT INTO tasks_task ({columns}) SELECT {values} FROM tasks_task t, accounts_account a, generate_series(1, %s) n
WHERE t.id = %s AND a.name LIKE 'tenant-%%'
"""
WORKER = """
INSERT INTO tasks_worker (name, queues, threads, free, draining, quarantine, started_at, last_seen)
VALUES ('bench', '{sandbox}', 1000000, 1000000, false, false, now(), now() + interval '1 day')
"""


def fill(template: UUID, each: int) -> None:
    """`each` tasks for every tenant, as the template, and nothing else."""
    from genpulse import sql
    from tasks.models import Task

    # Events stay: plans that were made for an emptied table read all of it, until it is analysed again.
    sql.execute("DELETE FROM tasks_attempt")
    sql.execute("DELETE FROM tasks_task WHERE id <> %s", [template])
    special = {
        "id": "gen_random_uuid()",
        "account_id": "a.id",
        "hold_id": "NULL",
        "status": "'queued'",
        "ready": "true",
        "cancel_requested": "false",
        "finished_at": "NULL",
        "purge_at": "NULL",
    }
    columns = [str(field.column) for field in Task._meta.fields]
    values = [special.get(column, f"t.{column}") for column in columns]
    statement = BACKLOG.format(columns=", ".join(columns), values=", ".join(values))
    sql.execute("SET statement_timeout = 0")
    sql.execute(statement, [each, template])
    sql.execute("VACUUM ANALYZE tasks_task")


def people() -> None:
    """1 000 tenants, all like the first one."""
    from genpulse import sql
    from genpulse.auth.models import Account

    [first] = tenants.actors(1)
    columns = [str(field.column) for field in Account._meta.fields]
    special = {"id": "gen_random_uuid()", "name": "'tenant-' || n"}
    values = [special.get(column, f"a.{column}") for column in columns]
    statement = PEOPLE.format(columns=", ".join(columns), values=", ".join(values))
    sql.execute(statement, [TENANTS, first.account])


def admitted_per_second() -> float:
    """Rounds until ROUND tasks are admitted; they then leave, so that the next run finds the same."""
    from django.db import transaction

    from genpulse import sql
    from tasks import admission

    began, count = time.perf_counter(), 0
    while count < ROUND:
        with transaction.atomic():
            admitted = admission.admit()
        assert admitted, "nothing was admitted"
        count += len(admitted)
    seconds = time.perf_counter() - began
    sql.execute("UPDATE tasks_attempt SET slot = false WHERE slot")
    sql.execute(
        "UPDATE tasks_task SET status = 'succeeded', finished_at = now() WHERE status = 'admitted'"
    )
    return count / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    with Ground():
        from genpulse import sql
        from tasks import verbs

        cast.executor(slots=10**6)
        sql.execute(WORKER)
        people()
        [template] = tenants.submit(tenants.actors(1), 1, cast.text_task(latency=0))
        verbs.cancel([template], by="bench")
        small = small_runs(template, options.runs)
        fill(template, options.backlog // TENANTS)
        admitted_per_second()  # warm
        large = [admitted_per_second() for _ in range(options.runs)]
        small += small_runs(template, options.runs)
        report("P5 admissions", "per second", large, small, backlog=options.backlog)


def small_runs(template: UUID, runs: int) -> list[float]:
    found = []
    for _ in range(runs + 1):  # the first one warms up
        fill(template, 1)
        found.append(admitted_per_second())
    return found[1:]


if __name__ == "__main__":
    main()
