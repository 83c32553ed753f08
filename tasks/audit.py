"""Do tasks, attempts, events and money agree? Every invariant is a query for the rows that break it."""

from genpulse import meters
from genpulse.events.log import NewEvent, append
from wallet import audit as ledger
from wallet.audit import Check

INVARIANTS: dict[str, tuple[str, str]] = {
    "I7 tasks": (
        "an ended task has its hold resolved, any other one has it open, and both agree on the charge",
        """
        SELECT t.id FROM tasks_task t LEFT JOIN wallet_hold h ON h.id = t.hold_id
        WHERE t.hold_id IS NOT NULL AND (h.id IS NULL OR h.task_id IS DISTINCT FROM t.id OR h.amount <> t.quoted
          OR h.status <> CASE WHEN t.finished_at IS NULL THEN 'open' WHEN t.status = 'succeeded' THEN 'confirmed'
                              ELSE 'released' END
          OR h.charged <> t.charged)
        UNION ALL SELECT id FROM tasks_task WHERE hold_id IS NULL AND quoted <> 0
        UNION ALL
        SELECT h.task_id FROM wallet_hold h WHERE h.task_id IS NOT NULL
          AND NOT EXISTS (SELECT 1 FROM tasks_task t WHERE t.id = h.task_id AND t.hold_id = h.id)
          AND h.status = 'open'
        """,
    ),
    "I10": (
        "no task outlives every deadline it can have",
        """
        SELECT id FROM tasks_task WHERE finished_at IS NULL AND greatest(created_at, run_at, due_at)
          + make_interval(secs => timeout) + interval '60 days' < now()
        """,
    ),
    "I12": (
        "an ended task has no attempt that holds a slot, and a charge belongs to a success",
        """
        SELECT t.id FROM tasks_task t JOIN tasks_attempt a ON a.task_id = t.id
        WHERE a.slot AND (t.finished_at IS NOT NULL OR t.attempt <> a.number OR t.status IN ('queued', 'blocked'))
        UNION ALL SELECT id FROM tasks_task WHERE charged > 0 AND status <> 'succeeded'
        """,
    ),
    "attempts": (
        "attempts are numbered without a gap up to the task's own",
        """
        SELECT t.id FROM tasks_task t LEFT JOIN tasks_attempt a ON a.task_id = t.id
        GROUP BY t.id HAVING count(a.number) <> t.attempt OR coalesce(max(a.number), 0) <> t.attempt
        """,
    ),
    "events": (
        "each task's events are numbered without a gap up to its own seq",
        """
        SELECT t.id FROM tasks_task t JOIN events_event e ON e.task_id = t.id AND e.seq IS NOT NULL
        GROUP BY t.id HAVING count(*) <> t.seq OR max(e.seq) <> t.seq
        """,
    ),
    "batches": (
        "a batch counts its open children, and a race has one success at most",
        """
        SELECT b.id FROM tasks_batch b LEFT JOIN tasks_task t ON t.batch_id = b.id
        GROUP BY b.id HAVING b.open <> count(t.id) FILTER (WHERE t.finished_at IS NULL)
          OR (b.mode = 'race' AND count(t.id) FILTER (WHERE t.status = 'succeeded') > 1)
        """,
    ),
    "holds": (
        "the trigger that keeps an ended task from leaving its hold open is on",
        """
        SELECT 'tasks_terminal_has_no_open_hold' WHERE NOT EXISTS (
          SELECT 1 FROM pg_trigger WHERE tgname = 'tasks_terminal_has_no_open_hold' AND tgenabled IN ('O', 'A'))
        """,
    ),
}


def run() -> list[Check]:
    """The ledger's invariants and these."""
    return ledger.run() + ledger.examine(INVARIANTS)


def breaches() -> list[Check]:
    """Those that do not hold."""
    return [check for check in run() if check.violations]


def report() -> int:
    """Tell operators and the meters of each invariant that does not hold; how many these are."""
    checks = run()
    for check in checks:
        meters.audit_violations.labels(check.name).set(check.violations)
    found = [check for check in checks if check.violations]
    append(
        [
            NewEvent(
                account=None,
                type="audit.violation",
                data={"invariant": check.name, "count": check.violations},
            )
            for check in found
        ]
    )
    return len(found)
