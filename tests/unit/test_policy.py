"""The table of error kinds, row by row: what follows an error, and whether it counts."""

import pytest

from tasks.policy import Fault, Verdict, decide


def verdict(kind, *, tries=0, here=0, max_attempts=5, waited=0.0, **fault) -> Verdict:
    return decide(
        Fault(kind=kind, message="no", **fault),
        tries=tries,
        here=here,
        max_attempts=max_attempts,
        waited=waited,
    )


@pytest.mark.parametrize(
    ("kind", "here", "follows", "counts"),
    [
        ("transient", 0, "retry", True),
        ("transient", 1, "retry", True),
        ("transient", 2, "failover", True),
        ("overloaded", 0, "retry", True),
        ("overloaded", 1, "failover", True),
        ("lost", 0, "retry", True),
        ("lost", 1, "failover", True),
        ("rate_limited", 0, "retry", False),
        ("quota_exhausted", 0, "failover", False),
        ("bad_credentials", 0, "failover", False),
        ("not_available", 0, "failover", False),
        ("bad_input", 0, "stop", False),
        ("content_refused", 0, "stop", False),
        ("unknown_outcome", 0, "verify", False),
    ],
)
def test_what_follows(kind, here, follows, counts):
    found = verdict(kind, here=here)
    assert (found.next, found.counts) == (follows, counts)


@pytest.mark.parametrize("kind", ["transient", "overloaded", "lost"])
def test_the_last_try_that_counts_ends_it(kind):
    assert verdict(kind, tries=4).code == "attempts_exhausted"
    assert verdict(kind, max_attempts=1).next == "stop"


def test_a_rate_limit_costs_no_try_even_the_only_one():
    assert verdict("rate_limited", max_attempts=1, retry_after=3) == Verdict(
        next="retry", delay=3, waits=3
    )


def test_rate_limits_without_a_time_wait_longer_each_time():
    waits = []
    waited = 0.0
    for _ in range(8):
        found = verdict("rate_limited", waited=waited)
        waits.append(found.delay)
        waited += found.waits
    assert waits == [1, 1, 2, 4, 8, 16, 32, 60]


def test_a_day_of_waiting_is_enough():
    assert verdict("rate_limited", retry_after=60, waited=86_390).code == "attempts_exhausted"


def test_backoff_doubles_up_to_a_minute_and_obeys_the_vendor():
    delays = [verdict("transient", tries=tries, max_attempts=10).delay for tries in range(8)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    assert verdict("transient", retry_after=90).delay == 90


def test_jitter_is_a_quarter():
    fault = Fault(kind="transient", message="no")
    low, high = (
        decide(fault, tries=2, here=0, max_attempts=9, waited=0, jitter=jitter).delay
        for jitter in (-1, 1)
    )
    assert (low, high) == (3, 5)


def test_nothing_is_retried_after_a_delta_was_sent():
    found = verdict("transient", delta_sent=True)
    assert (found.next, found.code) == ("stop", "upstream_cut")
    assert verdict("content_refused", delta_sent=True).code is None


def test_an_adapter_may_forbid_the_same_executor():
    assert verdict("transient", retries=0).next == "failover"


def test_lost_work_that_cost_money_is_not_repeated_there():
    assert verdict("lost", possible_cost=True).next == "failover"


def test_the_error_shown_says_whether_a_retry_may_help():
    shown = Fault(kind="content_refused", message="no", provider="sandbox").shown()
    assert shown == {
        "kind": "content_refused",
        "code": "content_refused",
        "message": "no",
        "retryable": False,
        "provider": "sandbox",
    }
