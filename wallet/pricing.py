"""What a task costs: estimated and quoted before it runs, charged by its real usage after.

Quantities have the names of a task's `usage` (`images`, `prompt_tokens`, ...), before and after alike.
Usage comes from vendors and may be anything; what is not a number from 0 up is as good as missing, and
the estimate stands in for it. Everything is Decimal or int, rounded up to a whole micro-credit.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from genpulse.config import config
from genpulse.errors import PriceMissing
from genpulse.money import LARGEST, to_credits, to_micro
from wallet.estimates import Units, estimate, quantity
from wallet.models import PriceKind
from wallet.rules import Target, find

__all__ = [
    "UNITS",
    "Quote",
    "Target",
    "Units",
    "charge",
    "estimate",
    "fixed",
    "list_price",
    "quote",
    "vendor_cost",
]

UNITS: Mapping[str, tuple[str, int]] = {  # unit of a price -> (name in usage, how many make a unit)
    "call": ("calls", 1),
    "image": ("images", 1),
    "second": ("seconds", 1),
    "1k_input_tokens": ("prompt_tokens", 1000),
    "1k_output_tokens": ("completion_tokens", 1000),
    "1k_characters": ("characters", 1000),
    "megapixel": ("megapixels", 1),
}


@dataclass(frozen=True, slots=True)
class Quote:
    """`price` in micro-credits is what is held. `snapshot` goes with the task and decides the charge."""

    price: int
    snapshot: dict[str, Any]
    unit_prices: list[dict[str, str]]


def quote(target: Target, units: Units) -> Quote:
    """The price of `units` by today's sale rule. Raises PriceMissing when unpriced work is refused."""
    rule = find(PriceKind.SALE, target)
    if rule is None:
        if config.unpriced_models == "refuse":
            raise PriceMissing(
                f"No price rule matches {target.model or target.provider}.", price=None
            )
        return Quote(0, {}, [])
    quantities = {UNITS[unit][0]: units.get(UNITS[unit][0], Decimal(0)) for unit, _ in rule.prices}
    lines = [
        {
            "unit": unit,
            "price": to_credits(price),
            "quantity": plain(quantities[UNITS[unit][0]] / UNITS[unit][1]),
        }
        for unit, price in rule.prices
    ]
    snapshot = {
        "rule": str(rule.id),
        "version": rule.version,
        "components": list_of(rule.prices),
        "minimum": to_credits(rule.minimum),
        "estimate": {name: plain(value) for name, value in quantities.items()},
    }
    return Quote(amount(rule.prices, rule.minimum, quantities), snapshot, lines)


def fixed(price: int) -> Quote:
    """A price agreed beforehand, whatever is used: it is the minimum of a rule without components."""
    return Quote(price, {"components": [], "minimum": to_credits(price), "estimate": {}}, [])


def charge(snapshot: Mapping[str, Any], usage: Mapping[str, Any] | None, cap: int) -> int:
    """Micro-credits for the real `usage` under the task's own price, at most `cap` (its hold)."""
    if not snapshot:
        return 0
    prices = [(part["unit"], to_micro(part["price"])) for part in snapshot["components"]]
    estimate = {name: Decimal(value) for name, value in snapshot["estimate"].items()}
    used = {**estimate, **readable(usage)}
    return min(amount(prices, to_micro(snapshot["minimum"]), used), cap)


def vendor_cost(target: Target, usage: Mapping[str, Any] | None) -> int | None:
    """What the vendor takes by the cost rule, in micro-credits; None without a rule."""
    rule = find(PriceKind.COST, target)
    if rule is None:
        return None
    return amount(rule.prices, rule.minimum, {"calls": Decimal(1), **readable(usage)})


def list_price(target: Target) -> list[dict[str, str]]:
    """`[{"unit", "price"}]` for the catalogue; empty: free."""
    rule = find(PriceKind.SALE, target)
    return list_of(rule.prices) if rule else []


def list_of(prices: Sequence[tuple[str, int]]) -> list[dict[str, str]]:
    return [{"unit": unit, "price": to_credits(price)} for unit, price in prices]


def amount(prices: Sequence[tuple[str, int]], minimum: int, used: Mapping[str, Decimal]) -> int:
    total = sum(
        (price * used.get(UNITS[unit][0], Decimal(0)) / UNITS[unit][1] for unit, price in prices),
        Decimal(0),
    )
    whole = int(total.to_integral_value(ROUND_CEILING))
    return min(max(whole, minimum), LARGEST)


def readable(usage: Mapping[str, Any] | None) -> dict[str, Decimal]:
    found = {name: quantity(value) for name, value in (usage or {}).items()}
    return {name: value for name, value in found.items() if value is not None}


def plain(value: Decimal) -> str:
    """Digits without exponent or trailing zeros."""
    return format(value.normalize(), "f")
