"""Work that is asked for by an action: the operator's binding says what it means and where it runs.

Without a binding a task waits as `blocked`; it is looked at again until somebody binds its action.
"""

from typing import Any
from uuid import UUID

from django.db import transaction
from psycopg.types.json import Jsonb

from admin_integrations import fleet, routing
from admin_integrations.fleet import RouteView
from admin_integrations.routing import BindingView
from genpulse import sql
from genpulse.errors import FamilyDraining, Problem
from media import services as media
from providers import registry
from tasks import drafts, routes, targets
from tasks.drafts import Actor, Draft
from tasks.lifecycle import apply
from tasks.moves import Settle, Unblock, error
from tasks.requests import TaskBody
from wallet import pricing

NO_BINDING = "NO_BINDING_AVAILABLE"
STEP = 200
UNBOUND = """
SELECT t.id, r.action, t.account_id, a.name, t.source, t.quoted, c.input FROM tasks_task t
JOIN tasks_route r ON r.id = t.route_id JOIN accounts_account a ON a.id = t.account_id
JOIN tasks_taskcontent c ON c.task_id = t.id
WHERE r.provider = '' AND r.action = ANY(%s) AND t.status IN ('queued', 'blocked') ORDER BY t.id LIMIT %s
"""
ACTIONS = """
SELECT DISTINCT r.action FROM tasks_route r WHERE r.provider = '' AND r.action <> '' AND EXISTS (
  SELECT 1 FROM tasks_task t WHERE t.route_id = r.id AND t.status = 'blocked')
"""
BIND = """
UPDATE tasks_task SET route_id = %s, family = %s, provider = %s, model = %s, task_type = %s, timeout = %s
WHERE id = %s AND status IN ('queued', 'blocked')
"""
BIND_CONTENT = """
UPDATE tasks_taskcontent SET input = %s, prompt = %s, options = options || %s WHERE task_id = %s
"""


def draft(actor: Actor, action: str, body: dict[str, Any], price: int) -> Draft:
    """A draft of what `action` means now; without a binding one that waits for it. Raises what a submit raises.

    `body`: fields of a task without its target. `price` in micro-credits is fixed.
    """
    chosen = routing.choose(action)
    if chosen is None:
        targets.family_open({""})
        return waiting(actor, action, TaskBody(**body), price)
    return drafts.draft(actor, TaskBody(**body, **target_of(chosen)), fixed_price=price)


def target_of(chosen: BindingView) -> dict[str, Any]:
    target: dict[str, Any] = {"model": chosen.model}
    if chosen.workflow_id:
        target = {"workflow": str(chosen.workflow_id)}
    elif chosen.ability_id:
        target = {"ability": str(chosen.ability_id)}
    names = [one.name for one in fleet.current().executors if one.id == chosen.executor_id]
    return {**target, "executor": {"only": names}} if chosen.executor_id else target


def waiting(actor: Actor, action: str, body: TaskBody, price: int) -> Draft:
    """Stored as it came; nobody knows yet what it needs."""
    view = RouteView(id=0, family="", provider="", action=action)
    target = registry.Target(provider="", family="", model=None, task_type="comfy-workflow")
    given, files = media.adopt_data_uris(
        actor.account_id, media.resolve_inputs(actor.account_id, dict(body.input))
    )
    return Draft(
        body=body,
        targets=[target],
        input=given,
        route=routes.find_or_make(view),
        quotes=[pricing.fixed(price)],
        files=files,
    )


def review() -> int:
    """Tasks whose action is bound by now may run; the number of tasks bound."""
    actions = [action for (action,) in sql.fetch(ACTIONS) if routing.choose(action)]
    if not actions:
        return 0
    return sum(bind(row) for row in sql.fetch_dicts(UNBOUND, [actions, STEP]))


def bind(waits: dict[str, Any]) -> bool:
    """Give a row of UNBOUND the target its action means now. Input that does not fit it ends the task."""
    id_: UUID = waits["id"]
    actor = Actor(account_id=waits["account_id"], account=waits["name"], source=waits["source"])
    try:
        made = draft(actor, waits["action"], {"input": sql.loads(waits["input"])}, waits["quoted"])
    except FamilyDraining:
        return False
    except Problem as problem:
        shown = error("bad_input", problem.code, problem.detail, retryable=False)
        return apply([Settle(task_id=id_, success=False, output={}, shown=shown)])[0].ok
    if not made.target.provider:
        return False
    with transaction.atomic():
        target = made.target
        columns = [made.route.id, target.family, target.provider, target.model, target.task_type]
        if not sql.execute(BIND, [*columns, made.timeout, id_]):
            media.discard(made.files)
            return False
        options = Jsonb(made.extra_options)
        sql.execute(BIND_CONTENT, [Jsonb(made.input), made.prompt, options, id_])
        apply([Unblock(task_id=id_)])
    return True
