"""Prices without a database: which rule applies, what an input will use, what real usage costs."""

import math
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genpulse.config import config
from genpulse.errors import PriceMissing
from genpulse.ids import new_id
from genpulse.money import LARGEST, MICRO
from wallet import pricing, rules
from wallet.estimates import estimate
from wallet.pricing import charge, fixed, list_price, quote, vendor_cost
from wallet.rules import Rule, Target

IMAGE = Target(task_type="text-to-image", model="flux-pro", provider="comfyui")


def rule(match_by: str, value: str, price: int = 1, unit: str = "call", **more: Any) -> Rule:
    """A rule of `price` credits a unit."""
    fields = {"kind": "sale", "task_type": "", "minimum": 0, "version": 1, **more}
    return Rule(
        id=new_id(), match_by=match_by, value=value, prices=((unit, price * MICRO),), **fields
    )


@pytest.fixture
def price_list(monkeypatch):
    """Put these rules in force; answers nothing from any database."""

    def put(*in_force: Rule) -> None:
        best_first = sorted(in_force, key=lambda rule: rule.rank, reverse=True)
        monkeypatch.setattr(rules.cache, "_rules", best_first)
        monkeypatch.setattr(rules.cache, "_read_at", time.monotonic() + 3600)

    put()
    return put


def price_of(target: Target, **units: int) -> float:
    quantities = {name: Decimal(value) for name, value in units.items()}
    return quote(target, {"calls": Decimal(1), **quantities}).price / MICRO


def test_the_closest_rule_wins(price_list):
    closer = [
        rule("provider", "comfyui", 1),
        rule("model", "*", 2),
        rule("model", "flux*", 3),
        rule("model", "flux-pro*", 4),
        rule("model", "FLUX-PRO", 5),
        rule("ability", "comfyui.poster", 6),
    ]
    poster = replace(IMAGE, abilities=("0199", "comfyui.poster"))
    for upto in range(1, 6):
        price_list(*closer[:upto])
        assert price_of(IMAGE) == upto
    price_list(*closer)
    assert (price_of(IMAGE), price_of(poster)) == (5, 6)


def test_of_equals_the_one_for_the_task_type_wins_and_others_do_not_count(price_list):
    price_list(
        rule("model", "flux*", 1),
        rule("model", "flux*", 2, task_type="text-to-image"),
        rule("model", "flux*", 3, task_type="image-to-image"),
        rule("model", "flux", 9),
        rule("provider", "sandbox", 9),
        rule("model", "flux*", 9, kind="cost"),
    )
    assert price_of(IMAGE) == 2


def test_of_twins_the_newest_wins(price_list):
    older, newer = sorted([rule("model", "a*", 1), rule("model", "a*", 2)], key=lambda r: r.id)
    price_list(newer, older)
    assert quote(Target(task_type="chat", model="ab"), {}).snapshot["rule"] == str(newer.id)


@pytest.mark.parametrize("value", ["f.ux*", "*", "a*b*c", "[flux]*", "flux-pro"])
def test_a_pattern_knows_stars_only(value):
    found = rule("model", value).matches(IMAGE)
    assert found is (value in {"*", "flux-pro"})


def test_without_a_rule_work_is_free_or_refused(price_list, monkeypatch):
    monkeypatch.setattr(config, "unpriced_models", "free")
    free = quote(IMAGE, {})
    assert (free.price, free.snapshot, free.unit_prices) == (0, {}, [])
    assert charge(free.snapshot, {"images": 4}, 100) == 0
    assert list_price(IMAGE) == []

    monkeypatch.setattr(config, "unpriced_models", "refuse")
    with pytest.raises(PriceMissing):
        quote(IMAGE, {})


def test_a_quote_says_what_it_is_made_of(price_list):
    price_list(
        Rule(
            id=UUID(int=7),
            version=3,
            kind="sale",
            match_by="model",
            value="flux*",
            task_type="",
            prices=(("image", 1_500_000), ("1k_input_tokens", 100)),
            minimum=MICRO,
        )
    )
    made = quote(IMAGE, {"images": Decimal(2), "prompt_tokens": Decimal(500)})

    assert made.price == 3_000_050
    assert made.unit_prices == [
        {"unit": "image", "price": "1.5", "quantity": "2"},
        {"unit": "1k_input_tokens", "price": "0.0001", "quantity": "0.5"},
    ]
    assert made.snapshot == {
        "rule": str(UUID(int=7)),
        "version": 3,
        "components": [
            {"unit": "image", "price": "1.5"},
            {"unit": "1k_input_tokens", "price": "0.0001"},
        ],
        "minimum": "1",
        "estimate": {"images": "2", "prompt_tokens": "500"},
    }
    assert list_price(IMAGE) == made.snapshot["components"]


def test_a_task_pays_the_price_it_was_quoted(price_list):
    price_list(rule("model", "flux*", 2, "image"))
    snapshot = quote(IMAGE, {"images": Decimal(4)}).snapshot
    price_list(rule("model", "flux*", 50, "image"))
    assert charge(snapshot, {"images": 3}, cap=8 * MICRO) == 6 * MICRO


@pytest.mark.parametrize(
    ("usage", "credits_"),
    [
        ({"images": 3}, 6),
        ({"images": 9}, 8),  # never above the hold
        ({"images": 0}, 1),  # never below the minimum
        ({"images": 1.5}, 3),
        ({}, 8),  # nobody counted: the estimate
        (None, 8),
        ({"images": math.nan}, 8),
        ({"images": math.inf}, 8),
        ({"images": -1}, 8),
        ({"images": "3"}, 8),
        ({"images": True}, 8),
        ({"images": [3]}, 8),
        ({"images": 10**400}, 8),
        ({"images": Decimal("sNaN")}, 8),
        ({"pictures": 3}, 8),
    ],
)
def test_real_usage_is_charged_and_nonsense_is_the_estimate(price_list, usage, credits_):
    price_list(rule("model", "flux*", 2, "image", minimum=MICRO))
    snapshot = quote(IMAGE, {"images": Decimal(4)}).snapshot
    assert charge(snapshot, usage, cap=8 * MICRO) == credits_ * MICRO


@given(
    st.dictionaries(
        st.sampled_from([name for name, _ in pricing.UNITS.values()]),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.decimals(),
    )
)
def test_no_usage_breaks_the_ledger(usage):
    snapshot = {
        "components": [{"unit": unit, "price": "9999999"} for unit in pricing.UNITS],
        "minimum": "0",
        "estimate": {},
    }
    for cap in (0, 1, LARGEST):
        charged = charge(snapshot, usage, cap)
        assert type(charged) is int
        assert 0 <= charged <= cap


def test_a_part_of_a_micro_credit_is_rounded_up(price_list):
    price_list(replace(rule("model", "flux*"), prices=(("1k_input_tokens", 1),)))
    assert quote(IMAGE, {"prompt_tokens": Decimal(1)}).price == 1
    assert quote(IMAGE, {"prompt_tokens": Decimal(2000)}).price == 2


def test_a_price_agreed_beforehand_is_charged_whatever_is_used():
    agreed = fixed(5 * MICRO)
    assert agreed.price == 5 * MICRO
    assert charge(agreed.snapshot, {"images": 7}, cap=5 * MICRO) == 5 * MICRO


def test_cost_rules_say_what_the_vendor_takes_and_never_charge(price_list, monkeypatch):
    monkeypatch.setattr(config, "unpriced_models", "free")
    price_list(rule("model", "flux*", 3, "image", kind="cost"))
    assert vendor_cost(IMAGE, {"images": 2}) == 6 * MICRO
    assert vendor_cost(IMAGE, None) == 0
    assert quote(IMAGE, {"images": Decimal(2)}).price == 0
    assert vendor_cost(Target(task_type="chat", model="gpt-4o"), {}) is None


def units(task_type: str, given_: dict[str, object], **more: float) -> dict[str, float]:
    return {name: float(value) for name, value in estimate(task_type, given_, **more).items()}


def test_an_estimate_covers_every_unit():
    assert units("text-to-image", {"prompt": "a red kite", "n": 2, "size": "512x1024"}) == {
        "calls": 1,
        "images": 2,
        "seconds": 5,
        "prompt_tokens": 4,
        "completion_tokens": 2048,
        "characters": 10,
        "megapixels": 1.048576,
    }
    assert {name for name, _ in pricing.UNITS.values()} == set(estimate("chat", {}))


def test_chat_counts_everything_the_model_reads():
    talk = {
        "system": "abc",
        "messages": [
            {"role": "user", "content": "def"},
            {"role": "user", "content": [{"type": "text", "text": "ghi"}, {"type": "image_url"}]},
            {"role": "assistant", "content": None},
        ],
        "max_tokens": 100,
        "n": 3,
    }
    found = units("chat", talk)
    assert (found["characters"], found["prompt_tokens"]) == (9, 3)
    assert found["completion_tokens"] == 300
    assert units("chat", {"prompt": "你好"})["prompt_tokens"] == 2
    assert units("embedding", {"texts": ["abc", "def"]})["prompt_tokens"] == 2
    assert units("embedding", {"texts": ["abc"]})["completion_tokens"] == 0


@pytest.mark.parametrize(
    ("given_", "media", "seconds"),
    [
        ({"duration": 8}, None, 8),
        ({"duration": "8"}, None, 8),
        ({"duration": "soon"}, None, 5),
        ({"duration": -8}, None, 5),
        ({}, 61.5, 61.5),
        ({"duration": 8}, 61.5, 8),
    ],
)
def test_seconds_come_from_the_wish_or_the_input(given_, media, seconds):
    assert units("text-to-video", given_, media_seconds=media)["seconds"] == seconds


@pytest.mark.parametrize(
    ("given_", "megapixels"),
    [
        ({"width": 1000, "height": 2000}, 2),
        ({"size": "1000*500"}, 0.5),
        ({"size": "2K"}, 1.048576),
        ({"width": 1000}, 1.048576),
    ],
)
def test_megapixels(given_, megapixels):
    assert units("text-to-image", given_)["megapixels"] == megapixels


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "prompt",
                "system",
                "messages",
                "texts",
                "n",
                "max_tokens",
                "duration",
                "size",
                "width",
            ]
        ),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=5,
        ),
    )
)
def test_no_input_breaks_an_estimate(given_):
    for value in estimate("chat", given_).values():
        assert value.is_finite()
        assert 0 <= value <= 10**9
