"""Executors that are left alone for a while: operators hear of it once."""

from datetime import timedelta

import pytest
from django.utils import timezone

from admin_integrations import health
from admin_integrations.models import Cooldown
from genpulse.events.models import Event
from tests.integration.stack import sandbox


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
