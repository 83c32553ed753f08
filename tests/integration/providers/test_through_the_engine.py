"""Every provider through the real engine, against its emulator: what was sent, and what a task, its events and the
wallet show of each kind of trouble.

A case has an executor and a vendor of its own, and all cases share a healthy spare one: so it is seen where work goes
on, and that a refusal and an unknown outcome never go there.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tasks import audit
from tasks.models import Task
from tests.emulators import gemini, openai
from tests.emulators.base import (
    Fault,
    Request,
    answered,
    cut_answer,
    drop_answer,
    silence,
)
from tests.integration.cast import Caller, caller
from tests.integration.providers.engine_ground import (
    HTML,
    VENDORS,
    Ground,
    Outcome,
    Vendor,
    outcome,
    paid,
    unpaid,
)
from tests.integration.stack import Stack, all_ended
from wallet import services as wallet
from wallet.models import PriceRule


@pytest.fixture
def alice(stack: Stack) -> Caller:
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 1_000_000_000, reason="test")
    return alice


@pytest.fixture
def ground(request: pytest.FixtureRequest, alice: Caller) -> Iterator[Ground]:
    vendor = VENDORS[request.param]
    unit = [{"unit": "call", "price": "2"}]
    PriceRule.objects.create(match_by="provider", match_value=vendor.provider, components=unit)
    with ExitStack() as running:
        made = Ground(vendor, alice, running)
        made.executor("spare")
        yield made


def script(vendor: Vendor) -> dict[str, list[Fault]]:
    """What the vendor of each case does before it is well."""
    cases = {"good": [], "dead": [drop_answer()], "html": [HTML], "cut": [cut_answer()]}
    if vendor.lost is None:
        cases["late"] = [silence()]
    faults = {"refused": vendor.refused, "empty": vendor.empty, "slow": vendor.slow}
    return cases | {name: [fault] for name, fault in faults.items() if fault}


@pytest.mark.parametrize("ground", VENDORS, indirect=True)
def test_what_becomes_of_work(ground: Ground) -> None:
    vendor, cases = ground.vendor, script(ground.vendor)
    choice = "fail" if vendor.lost == "unknown" else "verify"  # where nobody can be asked
    for case, faults in cases.items():
        patience = {"chat_timeout": 2} if case == "late" else {}
        ground.executor(case, *faults, after_unknown=choice, **patience)
    for case in cases:
        ground.submit(case)
    all_ended(list(ground.tasks.values()), 90)
    for case in cases:
        CHECKS[case](vendor, case, outcome(ground, case))
    check_request(vendor, ground.submits("good", "good")[0])

    charged = sum(Task.objects.values_list("charged", flat=True))
    balance = wallet.balance(ground.alice.user.account_id)
    assert (balance.held, balance.available) == (0, 1_000_000_000 - charged)
    assert not audit.breaches()
    for emulator in ground.emulators.values():
        emulator.verify()


def check_good(vendor: Vendor, case: str, found: Outcome) -> None:
    assert paid(found)
    assert (found.attempts, found.own, found.spare) == ([(case, "")], 1, 0)


def check_refused(vendor: Vendor, case: str, found: Outcome) -> None:
    assert unpaid(found, "content_refused")
    assert (len(found.attempts), found.own, found.spare) == (1, 1, 0)


def check_elsewhere(vendor: Vendor, case: str, found: Outcome) -> None:
    """An account without money or time: the other one does it, and no try is counted."""
    assert paid(found)
    assert found.kinds == [{"empty": "quota_exhausted", "slow": "rate_limited"}[case]]
    assert [executor for executor, _ in found.attempts] == [case, "spare"]
    assert (found.own, found.spare, found.task["tries"]) == (1, 1, 0)


def check_request(vendor: Vendor, request: Request) -> None:
    if vendor.secret:
        assert request.headers[vendor.key].removeprefix("Bearer ") == vendor.secret
    else:
        assert request.headers["authorization"] is None
    sent = request.json
    assert {name: sent.get(name) for name in vendor.sent} == vendor.sent
    assert "mark-good" in json.dumps(sent, ensure_ascii=False)


def check_lost(vendor: Vendor, case: str, found: Outcome) -> None:
    """Free work is sent again; a paid submit is looked up, or given up, and never sent elsewhere."""
    assert found.spare == 0
    if vendor.lost == "unknown":
        assert unpaid(found, "unknown_outcome")
        assert found.task["error"]["code"] == "outcome_unknown"
        assert found.own == 1
        assert found.possible_cost
    elif vendor.lost == "found":
        assert paid(found)
        # An answer that is no vendor's may stand for a job that never was: looked up, absent, sent again.
        assert found.own == (2 if case == "html" else 1)
    else:
        assert paid(found)
        code = {"late": "upstream_timeout", "dead": "transient"}.get(case, "bad_response")
        assert found.attempts == [(case, code), (case, "")]
        assert (found.own, found.task["tries"]) == (2, 1)


CHECKS = {
    "good": check_good,
    "refused": check_refused,
    **dict.fromkeys(("empty", "slow"), check_elsewhere),
    **dict.fromkeys(("dead", "late", "html", "cut"), check_lost),
}


SOFT = {
    "english": "I cannot create images of real people.",
    "chinese": "抱歉,我无法创建图片。",
    "prose": "Here is a poem about a kite instead.",
}


@pytest.mark.parametrize("ground", ["gemini-image"], indirect=True)
def test_a_refusal_in_prose_is_a_refusal(ground: Ground) -> None:
    """Gemini stops well, with words and no picture: failed with these words, refunded, tried nowhere else."""
    for case, words in SOFT.items():
        ground.executor(case)
        ground.emulators[case].says = gemini.Says([{"text": words}])  # type: ignore[attr-defined]
        ground.submit(case)
    all_ended(list(ground.tasks.values()), 60)
    for case, words in SOFT.items():
        found = outcome(ground, case)
        assert unpaid(found, "content_refused")
        assert found.task["error"]["message"] == words
        assert (found.own, found.spare) == (1, 0)


@pytest.mark.parametrize("ground", ["gemini"], indirect=True)
def test_a_chat_that_refuses_in_prose(ground: Ground) -> None:
    """Only by the operator's phrases; other words are an answer."""
    for case, words in SOFT.items():
        ground.executor(case, refusal_phrases=["cannot create images", "无法创建图片"])
        ground.emulators[case].says = gemini.Says([{"text": words}])  # type: ignore[attr-defined]
        ground.submit(case)
    all_ended(list(ground.tasks.values()), 60)
    found = {case: outcome(ground, case) for case in SOFT}
    assert unpaid(found["english"], "content_refused")
    assert unpaid(found["chinese"], "content_refused")
    assert found["chinese"].task["error"]["message"] == SOFT["chinese"]
    assert paid(found["prose"])
    assert sum(one.spare for one in found.values()) == 0


def counted(**usage: Any) -> Fault:
    """An answer with an odd bill."""
    body = openai.completion("gpt-5", openai.Script())
    return answered(200, json.dumps({**body, "usage": usage}))


@pytest.mark.parametrize("ground", ["openai"], indirect=True)
def test_odd_answers_harm_nobody(ground: Ground) -> None:
    """What cannot be read is asked for again; a bill that makes no sense is no bill; the worker goes on."""
    unreadable = {
        "huge": answered(200, b'{"choices": [' + b" " * 10_500_000 + b"]}"),
        "nan": counted(prompt_tokens=float("nan")),
        "list": answered(200, [1, 2]),
    }
    odd = {
        "negative": counted(prompt_tokens=-5, completion_tokens=-1, total_tokens=-6),
        "enormous": counted(prompt_tokens=10**30, completion_tokens=1, total_tokens=10**30),
        "words": counted(prompt_tokens="many", completion_tokens=None),
    }
    for case, fault in (unreadable | odd).items():
        ground.executor(case, fault)
        ground.submit(case)
    all_ended(list(ground.tasks.values()), 60)
    for case in unreadable:
        found = outcome(ground, case)
        assert paid(found)
        assert found.attempts == [(case, "bad_response"), (case, "")]
    for case in odd:
        found = outcome(ground, case)
        assert paid(found)
        assert found.own == 1
        assert all(value >= 0 for value in (found.task["usage"] or {}).values())
    assert not audit.breaches()


@pytest.mark.parametrize("ground", ["volcengine-video"], indirect=True)
def test_a_poll_that_answers_for_another_job_changes_nothing(ground: Ground) -> None:
    """The wrong id, a page, a broken line: the job is asked for again, never made again."""
    ground.executor("wrong")
    other = {"id": "cgt-other", "status": "succeeded", "content": {"video_url": "http://x/y.mp4"}}
    path = f"{ground.vendor.path}/cgt-20261121-00001"
    ground.emulators["wrong"].next("GET", path, answered(200, other), HTML, cut_answer())
    ground.submit("wrong")
    all_ended(list(ground.tasks.values()), 60)
    found = outcome(ground, "wrong")
    assert paid(found)
    assert (found.own, found.attempts) == (1, [("wrong", "")])
    assert ground.emulators["wrong"].count("GET", path) > 3
