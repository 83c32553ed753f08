"""What a request names, and who may serve it: models, workflows, queues and the route to executors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from admin_integrations import fleet, states
from admin_integrations.fleet import RouteView
from genpulse.errors import (
    FamilyDraining,
    FieldError,
    UnknownAbility,
    UnknownExecutor,
    ValidationFailed,
)
from providers import registry
from tasks import workflows
from tasks.requests import TaskBody
from tasks.workflows import Runnable

DRAIN_RETRY = 60
NOTHING_BOUND: Mapping[str, Runnable] = MappingProxyType({})


def check_names(body: TaskBody) -> None:
    """Exactly one target is named."""
    named = [name for name in ("model", "workflow", "ability") if getattr(body, name) is not None]
    if len(named) > 1:
        raise ValidationFailed.of(named[1], "exclusive", "name exactly one target")
    if named and named[0] != "model" and body.provider:
        raise ValidationFailed.of("provider", "exclusive", f"a {named[0]} knows its provider")
    if not named and not (body.provider and body.task_type):
        raise ValidationFailed.of(
            "model", "required", "name a model, a workflow, an ability, or provider and task_type"
        )
    if body.ability:
        raise UnknownAbility(
            f"There is no ability {body.ability!r}.",
            errors=[FieldError("ability", "choice", "no such ability")],
        )


def bound_to(body: TaskBody) -> dict[str, Runnable]:
    """The workflows of this task by the model each stands for; most tasks have none."""
    if body.workflow:
        chosen = workflows.find(body.workflow)
        return {chosen.model: chosen}
    if body.provider:
        return {}
    found = ((name, workflows.behind(name)) for name in body.models)
    return {name: chosen for name, chosen in found if chosen is not None}


def workflow_options(bound: Mapping[str, Runnable]) -> dict[str, Any]:
    """What of them is kept with the task: the name to show, the definitions for the adapter."""
    if not bound:
        return {}
    shown = next(iter(bound.values())).shown
    return {"workflow": shown, "presets": {model: one.preset for model, one in bound.items()}}


def check_workflows(
    targets: Sequence[registry.Target], bound: Mapping[str, Runnable], given: Mapping[str, Any]
) -> dict[str, str]:
    """Refuse what no workflow of the task could run; the places of the input that are media because of them."""
    places: dict[str, str] = {}
    for target in targets:
        chosen = bound.get(target.model or "")
        graph = chosen.preset.get("workflow") if chosen else given.get("workflow")
        if chosen:
            workflows.check(chosen, given)
        elif target.provider == "comfyui" and graph is not None:
            workflows.check_graph(graph, given)
        places |= workflows.media_places(graph) if target.provider == "comfyui" else {}
    return places


def resolve(body: TaskBody, bound: Mapping[str, Runnable] = NOTHING_BOUND) -> list[registry.Target]:
    """One target for each model of the list, all of one task type."""
    names: list[str | None] = [*(list(bound) if body.workflow else body.models)] or [None]
    listed = isinstance(body.model, list)
    targets: list[registry.Target] = []
    for index, name in enumerate(names):
        try:
            chosen = bound.get(name or "")
            target = registry.resolve(
                name,
                provider=body.provider,
                task_type=body.task_type or (targets[0].task_type if targets else None),
                input=body.input,
                bound=chosen.family if chosen else None,
                listed=provider_with(name),
            )
            # The workflow, not the name it goes by, says what it takes.
            targets.append(replace(target, declared=None) if chosen else target)
        except ValidationFailed as problem:
            if not listed:
                raise
            item = FieldError(f"model.{index}", problem.errors[0].code, problem.errors[0].message)
            raise type(problem)(problem.detail, errors=[item], **problem.extra) from None
    return targets


def provider_with(model: str | None) -> str | None:
    """The provider of an executor whose inventory has the model."""
    if model is None:
        return None
    for executor in fleet.current().executors:
        if executor.models and model in executor.models:
            return executor.type
    return None


def drained(families: set[str]) -> set[str]:
    """Those that take no new work."""
    wishes = states.current()
    return {family for family in families if wishes.of(family) == states.DRAINING}


def family_open(families: set[str]) -> None:
    """Raises FamilyDraining. The empty name stands for work of which nobody knows yet where it belongs."""
    closed = drained(families)
    if closed:
        name = " ".join(["The queue", *filter(None, [min(closed)])])
        raise FamilyDraining(f"{name} takes no new work.", retry_after=DRAIN_RETRY)


def route_of(
    body: TaskBody,
    target: registry.Target,
    given: Mapping[str, Any],
    bound: Mapping[str, Runnable] = NOTHING_BOUND,
) -> RouteView:
    """What decides who may serve it. Unknown executor names are refused."""
    wish, chosen = body.wish, bound.get(target.model or "")
    known = {executor.name for executor in fleet.current().executors}
    if isinstance(body.executor, str) and body.executor not in known:
        raise UnknownExecutor(
            f"There is no executor {body.executor!r}.",
            errors=[FieldError("executor", "choice", "no such executor")],
        )
    if not set(wish.only) <= known:
        raise ValidationFailed.of(
            "executor.only", "choice", "names an executor that does not exist"
        )
    return RouteView(
        id=0,
        family=target.family,
        provider=target.provider,
        model=target.model or "",
        only=tuple(sorted(wish.only)),
        avoid=tuple(sorted(wish.avoid)),
        prefer=tuple(wish.prefer),
        region=wish.region or "",
        tags=tuple(sorted(wish.tags)),
        needs=workflows.files(target.provider, chosen, given),
        executor=str(chosen.executor) if chosen and chosen.executor else "",
    )
