"""What an action means: the binding that is chosen for it.

Enabled bindings to runnable workflows, models and abilities, the highest priority first; equals take turns by weight.
"""

import threading
import time
from dataclasses import dataclass
from uuid import UUID

from admin_integrations.models import Wish
from genpulse import sql

MAX_AGE = 0.5  # seconds

BINDINGS = """
SELECT b.id, b.action, b.workflow_id, b.model, b.ability_id, b.executor_id, b.priority, b.weight,
       coalesce(w.type, '') AS workflow_type
FROM admin_integrations_workflowbinding b
LEFT JOIN admin_integrations_workflow w ON w.id = b.workflow_id
LEFT JOIN admin_integrations_executor e ON e.id = b.executor_id
WHERE b.enabled AND (w.id IS NULL OR w.status = 'active') AND e.status IS DISTINCT FROM %s
ORDER BY b.priority DESC, b.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BindingView:
    """Exactly one of workflow, model and ability; `executor_id` None: any of that type."""

    id: UUID
    action: str
    workflow_id: UUID | None
    workflow_type: str
    model: str
    ability_id: UUID | None
    executor_id: UUID | None
    priority: int
    weight: int


class Turns:
    """Smooth weighted turns: 3:1 gives a a b a, never a a a b. One row of turns for each group of equals."""

    def __init__(self) -> None:
        self._lead: dict[tuple[str, int], dict[UUID, int]] = {}
        self._lock = threading.Lock()

    def next(self, equals: list[BindingView]) -> BindingView:
        with self._lock:
            group = (equals[0].action, equals[0].priority)
            before = self._lead.get(group, {})
            lead = {one.id: before.get(one.id, 0) + one.weight for one in equals}
            chosen = max(equals, key=lambda one: lead[one.id])
            lead[chosen.id] -= sum(one.weight for one in equals)
            self._lead[group] = lead
            return chosen


_turns = Turns()
_cached: tuple[float, dict[str, list[BindingView]]] | None = None


def choose(action: str, *, workflows_only: bool = False) -> BindingView | None:
    """The binding whose turn it is; None when nothing is bound to `action`."""
    found = [one for one in _current().get(action, []) if one.workflow_id or not workflows_only]
    equals = [one for one in found if one.priority == found[0].priority]
    return _turns.next(equals) if equals else None


def forget() -> None:
    """This process has just changed a binding or a workflow."""
    global _cached  # noqa: PLW0603 - one snapshot for a process
    _cached = None


def _current() -> dict[str, list[BindingView]]:
    global _cached  # noqa: PLW0603
    if _cached is None or time.monotonic() - _cached[0] > MAX_AGE:
        bound: dict[str, list[BindingView]] = {}
        for row in sql.fetch_dicts(BINDINGS, [Wish.INACTIVE]):
            bound.setdefault(row["action"], []).append(BindingView(**row))
        _cached = (time.monotonic(), bound)
    return _cached[1]
