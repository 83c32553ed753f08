"""Token buckets: exact in a crowd, absent for operators, silent while Redis is away."""

from functools import cache

import pytest
import redis
from django.db import connections
from redis.backoff import NoBackoff
from redis.retry import Retry

from genpulse.config import config
from genpulse.errors import RateLimited
from genpulse.http import ratelimit
from tests.integration.cast import caller
from tests.integration.crowd import at_once

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.integration.doors")]
WHO = "/api/v1/who"


@pytest.fixture(autouse=True)
def fresh(clean_redis, monkeypatch):
    monkeypatch.setattr(ratelimit, "_away_until", 0.0)
    return clean_redis


def test_500_at_once_at_a_limit_of_100_admit_exactly_100():
    verdicts = at_once(50, lambda _: [ratelimit.take("crowd", 100) for _ in range(10)])
    allowed = [v for batch in verdicts for v in batch if v and v.allowed]
    # 100 tokens a minute come back: what the test's own duration adds is allowed too.
    assert 100 <= len(allowed) <= 101
    connections.close_all()


@pytest.mark.django_db(transaction=True)
def test_the_61st_parallel_write_is_refused(monkeypatch):
    monkeypatch.setattr(config, "rate_limit_write", 60)
    alice = caller("alice")
    answers = [
        answer
        for batch in at_once(7, lambda _: [alice.post(WHO) for _ in range(10)])
        for answer in batch
    ]
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(200) in {60, 61, 62}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "rate_limited"
    assert int(refused["Retry-After"]) >= 1
    assert refused["RateLimit-Remaining"] == "0"
    assert alice.get(WHO).status_code == 200


def test_every_answer_to_a_limited_credential_tells_where_it_stands(monkeypatch):
    monkeypatch.setattr(config, "rate_limit_read", 10)
    alice = caller("alice")
    first, second = alice.get(WHO), alice.get("/api/v1/notes/7")
    assert (first["RateLimit-Limit"], first["RateLimit-Remaining"]) == ("10", "9")
    assert (second.status_code, second["RateLimit-Remaining"]) == (404, "8")
    assert 1 <= int(second["RateLimit-Reset"]) <= 12


def test_keys_have_buckets_of_their_own(monkeypatch):
    monkeypatch.setattr(config, "rate_limit_read", 1)
    one, other = caller("alice"), caller("alice")
    assert [c.get(WHO).status_code for c in (one, one, other)] == [200, 429, 200]


@pytest.mark.parametrize("scope", ["admin", "act_as"])
def test_operators_and_services_are_exempt(monkeypatch, scope):
    monkeypatch.setattr(config, "rate_limit_read", 1)
    who = caller("shop", scope)
    answers = [who.get(WHO) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert "RateLimit-Limit" not in answers[0]


def test_zero_switches_it_off(monkeypatch):
    monkeypatch.setattr(config, "rate_limit_read", 0)
    alice = caller("alice")
    assert [alice.get(WHO).status_code for _ in range(3)] == [200] * 3


def test_tokens_come_back_by_the_clock_of_redis(fresh):
    verdicts = [ratelimit.take("slow", 3) for _ in range(4)]
    assert [(v.allowed, v.remaining) for v in verdicts if v] == [
        (True, 2),
        (True, 1),
        (True, 0),
        (False, 0),
    ]
    assert [v.retry_after for v in verdicts if v] == [1, 1, 1, 20]
    fresh.hincrby("gp:rl:slow", "at", -20_000)
    verdicts = [ratelimit.take("slow", 3) for _ in range(2)]
    assert [v.allowed for v in verdicts if v] == [True, False]
    assert 0 < fresh.pttl("gp:rl:slow") <= 60_000


def test_while_redis_is_away_requests_pass(monkeypatch):
    @cache
    def nowhere():
        return redis.Redis(port=1, retry=Retry(NoBackoff(), 0)).register_script(ratelimit.TAKE)

    monkeypatch.setattr(ratelimit, "_script", nowhere)
    monkeypatch.setattr(config, "rate_limit_read", 1)
    alice = caller("alice")
    assert [alice.get(WHO).status_code for _ in range(3)] == [200] * 3


def test_log_in_is_limited_by_address(monkeypatch):
    monkeypatch.setattr(config, "rate_limit_login", 2)
    for _ in range(2):
        ratelimit.check_login("10.0.0.1")
    with pytest.raises(RateLimited):
        ratelimit.check_login("10.0.0.1")
    ratelimit.check_login("10.0.0.2")
