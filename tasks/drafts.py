"""From a request body to a draft: everything about a new task that can be known without writing anything.

Raises the Problem that names the field. Slow looks (DNS of addresses, decoding of data URIs) happen here, outside any
transaction; `services.write` then stores drafts in one.
"""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from admin_integrations.fleet import RouteView
from genpulse.auth.models import ApiKey
from genpulse.config import config
from genpulse.errors import (
    FieldError,
    MaxPriceExceeded,
    ModelNotAllowed,
    Problem,
    ValidationFailed,
)
from genpulse.money import to_credits
from media import services as media
from media.services import Prepared
from providers import registry
from tasks import routes, targets
from tasks.requests import TaskBody
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
FARTHEST = timedelta(days=30)


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
        _check_terms(body)
        targets.check_names(body)
        bound = targets.bound_to(body)
        chosen = targets.resolve(body, bound)
        _key_allows(actor, chosen)
        if not quoting:
            targets.family_open({target.family for target in chosen})
        clean = validated(actor, body, chosen)
        places = targets.check_workflows(chosen, bound, clean)
        resolved = media.resolve_inputs(actor.account_id, clean, places=places)
        _check_webhook(body)
        view = routes.find_or_make(targets.route_of(body, chosen[0], clean, bound))
        stored, files = media.adopt_data_uris(actor.account_id, resolved, places=places)
    try:
        with below(prefix):
            made = Draft(
                body=body,
                targets=chosen,
                input=stored,
                route=view,
                quotes=[quote_of(target, stored, fixed_price) for target in chosen],
                files=files,
                extra_options=targets.workflow_options(bound),
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


def _check_terms(body: TaskBody) -> None:
    if body.run_at and body.run_at > datetime.now(UTC) + FARTHEST:
        raise ValidationFailed.of("run_at", "too_large", "at most 30 days ahead")
    if body.store is False and body.retention is not None:
        raise ValidationFailed.of("retention", "exclusive", "store: false keeps nothing")


def validated(actor: Actor, body: TaskBody, chosen: Sequence[registry.Target]) -> dict[str, Any]:
    clean = registry.validate_input(chosen[0], body.input)
    for other in chosen[1:]:
        registry.validate_input(other, body.input)
    sandbox = clean.get("sandbox")
    if isinstance(sandbox, Mapping) and sandbox.get("crash"):
        if config.production:
            raise ValidationFailed.of("input.sandbox.crash", "choice", "only in development")
        if not actor.admin:
            raise ValidationFailed.of("input.sandbox.crash", "choice", "needs scope admin")
    if body.conversation_id and chosen[0].task_type != "chat":
        raise ValidationFailed.of("conversation_id", "choice", "only chat has conversations")
    return clean


def _key_allows(actor: Actor, chosen: Sequence[registry.Target]) -> None:
    patterns = actor.key.model_patterns if actor.key else []
    for target in chosen:
        name = (target.model or "").lower()
        if patterns and not any(fnmatch.fnmatchcase(name, p.lower()) for p in patterns):
            raise ModelNotAllowed(f"This key may not use {target.model}.")


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
