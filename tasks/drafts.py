"""From a request body to a draft: everything about a new task that can be known without writing anything.

Raises the Problem that names the field. Slow looks (DNS of addresses, decoding of data URIs) happen here, outside any
transaction; `services.write` then stores drafts in one.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from admin_integrations import fleet, states
from admin_integrations.fleet import RouteView
from genpulse.auth.models import ApiKey
from genpulse.config import config
from genpulse.errors import (
    FamilyDraining,
    FieldError,
    MaxPriceExceeded,
    ModelNotAllowed,
    Problem,
    UnknownAbility,
    UnknownExecutor,
    ValidationFailed,
)
from genpulse.money import to_credits
from media import services as media
from media.services import Prepared
from providers import registry
from tasks import routes, workflows
from tasks.requests import TaskBody
from tasks.workflows import Runnable
from wallet import pricing
from wallet.estimates import estimate
from wallet.pricing import Quote
from wallet.rules import Target as PriceTarget

TIMEOUTS = {
    "chat": 900,
    "text-to-image": 600,
    "image-to-image": 600,
    "text-to-audio": 300,
    "audio-to-text": 600,
    "embedding": 120,
}
LONG = 3600  # videos and workflows
DRAIN_RETRY = 60
FARTHEST = timedelta(days=30)
NOTHING_BOUND: Mapping[str, Runnable] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who submits, for whom and through which door."""

    account_id: UUID
    account: str
    source: str = "native"
    key: ApiKey | None = None
    admin: bool = False


@dataclass(slots=True, kw_only=True)
class Draft:
    """One task that could be stored."""

    body: TaskBody
    targets: Sequence[registry.Target]
    input: dict[str, Any]
    route: RouteView
    quotes: Sequence[Quote]
    files: list[Prepared] = field(default_factory=list)
    batch_index: int | None = None
    retry_of: UUID | None = None
    cloned_from: UUID | None = None
    external_id: str | None = None
    adopts: bool = False  # the client may have frozen its price under `external_id` already
    extra_options: dict[str, Any] = field(default_factory=dict)

    @property
    def target(self) -> registry.Target:
        return self.targets[0]

    @property
    def price(self) -> int:
        """What is held: the dearest of the fall-back models."""
        return max(quote.price for quote in self.quotes)

    @property
    def timeout(self) -> int:
        return self.body.timeout or TIMEOUTS.get(self.target.task_type, LONG)

    @property
    def prompt(self) -> str:
        """For the search of lists."""
        if isinstance(self.input.get("prompt"), str):
            return str(self.input["prompt"])
        texts = [
            message["content"]
            for message in self.input.get("messages", [])
            if isinstance(message, dict) and isinstance(message.get("content"), str)
        ]
        return texts[-1] if texts else ""


def draft(
    actor: Actor,
    body: TaskBody,
    prefix: str = "",
    *,
    fixed_price: int | None = None,
    quoting: bool = False,
) -> Draft:
    """Check one body against everything but credits and limits of the account.

    `fixed_price` in micro-credits is what it costs, whatever the price rules say. `quoting`: a queue that takes no
    new work is no reason to refuse.
    """
    with below(prefix):
        _one_target(body)
        bound = bound_to(body)
        targets = resolve(body, bound)
        _key_allows(actor, targets)
        if not quoting:
            family_open({target.family for target in targets})
        clean = validated(actor, body, targets)
        places = check_workflows(targets, bound, clean)
        resolved = media.resolve_inputs(actor.account_id, clean, places=places)
        _check_webhook(body)
        view = routes.find_or_make(route_of(body, targets[0], clean, bound))
        stored, files = media.adopt_data_uris(actor.account_id, resolved, places=places)
    try:
        with below(prefix):
            made = Draft(
                body=body,
                targets=targets,
                input=stored,
                route=view,
                quotes=[quote_of(target, stored, fixed_price) for target in targets],
                files=files,
                extra_options=workflow_options(bound),
            )
            _check_price(made)
    except BaseException:
        media.discard(files)
        raise
    return made


class below:  # noqa: N801 - reads as a word: `with below("items.3"):`
    """Refusals raised inside name their fields below `prefix`; below `models.1` only the model itself lies."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, problem: BaseException | None, _trace: object) -> None:
        if self.prefix and isinstance(problem, ValidationFailed):
            items = [
                FieldError(self._place(item.field), item.code, item.message)
                for item in problem.errors
            ]
            raise type(problem)(
                f"{self.prefix}: {problem.detail}", errors=items, **problem.extra
            ) from None

    def _place(self, field: str) -> str:
        if self.prefix.startswith("models."):
            return self.prefix if field == "model" else field
        return f"{self.prefix}.{field}"


def _one_target(body: TaskBody) -> None:
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
    if body.run_at and body.run_at > datetime.now(UTC) + FARTHEST:
        raise ValidationFailed.of("run_at", "too_large", "at most 30 days ahead")
    if body.store is False and body.retention is not None:
        raise ValidationFailed.of("retention", "exclusive", "store: false keeps nothing")


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


def validated(actor: Actor, body: TaskBody, targets: Sequence[registry.Target]) -> dict[str, Any]:
    clean = registry.validate_input(targets[0], body.input)
    for other in targets[1:]:
        registry.validate_input(other, body.input)
    sandbox = clean.get("sandbox")
    if isinstance(sandbox, Mapping) and sandbox.get("crash"):
        if config.production:
            raise ValidationFailed.of("input.sandbox.crash", "choice", "only in development")
        if not actor.admin:
            raise ValidationFailed.of("input.sandbox.crash", "choice", "needs scope admin")
    if body.conversation_id and targets[0].task_type != "chat":
        raise ValidationFailed.of("conversation_id", "choice", "only chat has conversations")
    return clean


def _key_allows(actor: Actor, targets: Sequence[registry.Target]) -> None:
    patterns = actor.key.model_patterns if actor.key else []
    for target in targets:
        name = (target.model or "").lower()
        if patterns and not any(fnmatch.fnmatchcase(name, p.lower()) for p in patterns):
            raise ModelNotAllowed(f"This key may not use {target.model}.")


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


def _check_webhook(body: TaskBody) -> None:
    if body.webhook is None:
        return
    try:
        media.check_url(body.webhook.url, purpose="callback")
    except Problem as problem:
        item = FieldError("webhook.url", "choice", problem.detail)
        raise type(problem)(problem.detail, errors=[item]) from None


def quote_of(
    target: registry.Target, given: Mapping[str, Any], fixed_price: int | None = None
) -> Quote:
    if fixed_price is not None:
        return pricing.fixed(fixed_price)
    wanted = PriceTarget(
        task_type=target.task_type, model=target.model or "", provider=target.provider
    )
    return pricing.quote(wanted, estimate(target.task_type, given))


def _check_price(made: Draft) -> None:
    limit = made.body.max_price
    if limit is not None and made.price > limit:
        raise MaxPriceExceeded(
            f"It would cost {to_credits(made.price)} credits.", price=to_credits(made.price)
        )
