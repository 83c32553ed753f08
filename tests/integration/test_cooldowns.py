"""Executors that are left alone for a while: operators hear of it once."""

from datetime import timedelta

import pytest
from django.utils import timezone

from admin_integrations import health
from admin_integrations.models import Cooldown
from genpulse.events.models import Event
from tests.integration.cast import caller
from tests.integration.stack import all_ended, eventually, sandbox
from wallet import services as wallet


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["overloaded", "rate_limited", "not_available"])
def test_a_pause_is_told_once_however_many_errors_it_was_made_of(kind):
    one = sandbox()
    for _ in range(3):
        assert health.failed(one.id, one.name, None, "sandbox-text", kind, retry_after=30)
    [event] = Event.objects.filter(type="executor.cooldown")
    assert event.account_id is None, "for operators only"
    assert [event.data["executor"], event.data["reason"]] == [one.name, kind]
    assert event.data["until"].endswith("Z")

    Cooldown.objects.update(until=timezone.now() - timedelta(hours=1))
    assert health.failed(one.id, one.name, None, "sandbox-text", kind, retry_after=30)
    assert Event.objects.filter(type="executor.cooldown").count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("controls", [{"latency": 0}, {"mode": "accept"}])
def test_a_circuit_closes_when_the_one_that_was_let_through_did_well(stack, controls):
    one = sandbox()
    health.cool(one.id, None, "sandbox-text", "circuit_open", 600)
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 10**9, reason="test")
    body = {"model": "sandbox-text", "input": {"prompt": "x", "sandbox": controls}}

    def let_through() -> bool:
        """The worker hears of a circuit within a second: the first one may be too early to close it."""
        Cooldown.objects.update(until=timezone.now() - timedelta(hours=1))  # its time is over
        all_ended([alice.post("/api/v1/tasks", body).json()["id"]])
        return not Cooldown.objects.exists()

    assert eventually(let_through)
    [event] = Event.objects.filter(type="executor.up")
    assert event.data == {"executor": one.name, "reason": "recovered"}
