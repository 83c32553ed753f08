"""Executors that were deleted while they had work: they go when it has ended."""

from uuid import UUID

from django.db import transaction

from admin_integrations import fleet
from admin_integrations.models import Executor
from genpulse import sql
from tasks.lifecycle import apply
from tasks.moves import HandBack

# What still needs the row: slots in use, and the present attempt of a task that is polled, looked up or stored.
BUSY = """
SELECT 1 FROM tasks_attempt a JOIN tasks_task t ON t.id = a.task_id
WHERE a.executor_id = %s AND (a.slot OR (t.finished_at IS NULL AND a.number = t.attempt AND a.stage <> 'closed')) LIMIT 1
"""
# A leader that did not know yet may have admitted to one that is gone; nobody could claim that.
STRANDED = """
SELECT a.task_id, a.number FROM tasks_attempt a
LEFT JOIN admin_integrations_executor e ON e.id = a.executor_id
WHERE a.slot AND a.stage = 'admitted' AND e.id IS NULL
"""


def finish(executor: UUID) -> bool:
    """Delete an executor that is to go and has nothing left; whether it is gone."""
    with transaction.atomic():
        # Admission holds this row for its whole transaction, so no attempt is being made meanwhile.
        sql.fetch("SELECT 1 FROM tasks_orchestratorlease FOR UPDATE")
        if sql.fetch(BUSY, [executor]):
            return False
        Executor.objects.filter(pk=executor, removing=True).delete()
    fleet.forget()
    return True


def sweep() -> int:
    """Chore: finish what is to go, and free tasks that were given to one that is gone; how many went."""
    leaving = list(Executor.objects.filter(removing=True).values_list("pk", flat=True))
    gone = sum(finish(id_) for id_ in leaving)
    stranded = [HandBack(task_id=task, attempt=number) for task, number in sql.fetch(STRANDED)]
    if stranded:
        apply(stranded)
    return gone
