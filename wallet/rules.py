"""Which price rule applies: the list of current rules, kept for 2 seconds, and the choice among them."""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from django.db import transaction

from genpulse.errors import NotFound
from genpulse.money import to_micro
from wallet.models import MatchBy, PriceKind, PriceRule

MAX_AGE = 2.0  # seconds an edit may take to reach every process


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What is to be paid for. `abilities` are the names a rule may call it by: id, `provider.key`."""

    task_type: str
    model: str = ""
    provider: str = ""
    abilities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """A price rule ready to match: prices in micro-credits a unit."""

    id: UUID
    version: int
    kind: str
    match_by: str
    value: str
    task_type: str
    prices: tuple[tuple[str, int], ...]
    minimum: int

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(".*".join(map(re.escape, self.value.lower().split("*"))))

    def matches(self, target: Target) -> bool:
        if self.task_type not in {"", target.task_type}:
            return False
        if self.match_by == MatchBy.ABILITY:
            return self.value in target.abilities
        if self.match_by == MatchBy.PROVIDER:
            return self.value == target.provider
        return bool(self.pattern.fullmatch(target.model.lower()))

    @cached_property
    def rank(self) -> tuple[int, int, bool, UUID]:
        """Ability, exact model, longest model pattern, provider; then the one that names the type."""
        order = {MatchBy.PROVIDER: 0, MatchBy.MODEL: 1, MatchBy.ABILITY: 3}[MatchBy(self.match_by)]
        exact = self.match_by == MatchBy.MODEL and "*" not in self.value
        return (order + exact, len(self.value.replace("*", "")), bool(self.task_type), self.id)


class RuleCache:
    """The enabled current rules of this process, best first."""

    def __init__(self) -> None:
        self._rules: Sequence[Rule] = ()
        self._read_at = float("-inf")

    def rules(self) -> Sequence[Rule]:
        if time.monotonic() - self._read_at > MAX_AGE:
            now = time.monotonic()
            rows = PriceRule.objects.filter(current=True, enabled=True)
            self._rules = sorted(map(rule_of, rows), key=lambda rule: rule.rank, reverse=True)
            self._read_at = now
        return self._rules

    def forget(self) -> None:
        self._read_at = float("-inf")


cache = RuleCache()


def rule_of(row: PriceRule) -> Rule:
    return Rule(
        id=row.rule_id,
        version=row.version,
        kind=row.kind,
        match_by=row.match_by,
        value=row.match_value,
        task_type=row.task_type,
        prices=tuple((part["unit"], to_micro(part["price"])) for part in row.components),
        minimum=row.minimum,
    )


def find(kind: PriceKind, target: Target) -> Rule | None:
    """The rule for `target`, at most 2 seconds behind an edit."""
    return next(
        (rule for rule in cache.rules() if rule.kind == kind and rule.matches(target)), None
    )


def create(values: Mapping[str, Any]) -> PriceRule:
    """A new rule; `values` are columns of PriceRule."""
    row = PriceRule.objects.create(**values)
    cache.forget()
    return row


@transaction.atomic
def replace(rule_id: UUID, values: Mapping[str, Any]) -> PriceRule:
    """A new version of the rule: tasks made before keep the old one. Raises NotFound."""
    old = _retire(rule_id)
    row = PriceRule.objects.create(**values, rule_id=rule_id, version=old.version + 1)
    cache.forget()
    return row


@transaction.atomic
def delete(rule_id: UUID) -> None:
    """No new task is priced by this rule; its versions stay for the tasks that were. Raises NotFound."""
    _retire(rule_id)
    cache.forget()


def _retire(rule_id: UUID) -> PriceRule:
    row = PriceRule.objects.select_for_update().filter(rule_id=rule_id, current=True).first()
    if row is None:
        raise NotFound
    row.current = False
    row.save(update_fields=["current"])
    return row
