"""Clients that poll are answered in the event loop where that is plain, and exactly as the view would."""

import asyncio
import json
from types import SimpleNamespace
from unittest.mock import patch

import pytest
from django.test import AsyncRequestFactory
from redis.asyncio import Redis

from genpulse.config import config
from genpulse.events import bells
from tasks import snapshots
from tasks.glance import at_a_glance
from tests.integration.cast import caller
from tests.integration.stack import eventually, sandbox
from wallet import services as wallet

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def alice():
    sandbox()
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 1_000_000_000, reason="test")
    return alice


@pytest.fixture
def path(alice):
    body = {"model": "sandbox-text", "input": {"prompt": "a red kite"}}
    return alice.post("/api/v1/tasks", body).json()["urls"]["self"]


def glance(who, path, method="GET", query="", **headers):
    """The answer of the event loop, None when the view was asked."""

    async def view(request, id_):
        return None

    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AsyncRequestFactory().generic(method, path + query, headers={**who.headers, **named})

    async def answer():
        redis = Redis.from_url(config.redis_live_url)
        try:
            with patch("tasks.glance.hub", lambda: SimpleNamespace(redis=redis)):
                return await at_a_glance(view)(request, id_=path.rpartition("/")[2])
        finally:
            await redis.aclose()

    return asyncio.run(answer())


def seen(who, path, **headers):
    """The answer of the event loop, soon after somebody looked."""

    def look():
        who.get(path)
        return glance(who, path, **headers)

    return eventually(look)


def test_it_is_the_answer_of_the_view(alice, path):
    answer, whole = seen(alice, path), alice.get(path)
    assert (answer.status_code, answer.content) == (200, whole.content)
    for name in ("ETag", "Content-Type", "RateLimit-Limit"):
        assert answer.headers[name] == whole.headers[name]
    known = seen(alice, path, if_none_match=whole.headers["ETag"])
    assert (known.status_code, known.content) == (304, b"")
    service = caller("service", "act_as", "tasks")
    assert "RateLimit-Limit" not in seen(service, path).headers


def test_whoever_may_not_see_it_is_left_to_the_view(alice, path):
    bob, blind = caller("bob"), caller("alice", "media")
    assert seen(alice, path)
    for other in (bob, blind):
        other.get(path)
        assert glance(other, path) is None
    alice.get(path)
    alice.headers["Authorization"] += "x"
    assert glance(alice, path) is None


@pytest.mark.parametrize(
    "asked",
    [
        {"method": "DELETE"},
        {"method": "HEAD"},
        {"query": "?wait=1"},
        {"x_genpulse_user": "bob"},
        {"x_genpulse_user": ""},  # unreadable, and refused
    ],
)
def test_special_requests_are_left_to_the_view(alice, path, asked):
    assert seen(alice, path)
    alice.get(path)
    assert glance(alice, path, **asked) is None


def test_results_are_left_to_the_view(alice, path):
    assert seen(alice, path)
    plain = alice.get(path).json()
    done = {**plain, "seq": 9, "output": {"text": "a kite", "assets": []}}
    bells.keep_newest({plain["id"]: 9}, json.dumps([str(alice.user.account_id), done]))
    assert alice.get(path).json()["seq"] == 9
    assert glance(alice, path) is None


def test_the_rate_of_a_key_counts_here_too(alice, path, monkeypatch):
    assert seen(alice, path)
    monkeypatch.setattr(config, "rate_limit_read", 3)
    statuses = [alice.get(path).status_code for _ in range(4)]
    assert 429 in statuses
    assert glance(alice, path) is None


def test_without_redis_the_view_answers(alice, path, monkeypatch):
    assert seen(alice, path)
    alice.get(path)
    with monkeypatch.context() as away:
        away.setattr(config, "redis_live_url", "redis://127.0.0.1:1/0")
        assert glance(alice, path) is None
        assert snapshots.away()
    monkeypatch.setattr(snapshots, "_away_until", 0.0)
    assert seen(alice, path)
