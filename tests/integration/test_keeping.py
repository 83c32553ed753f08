"""What is purged, dropped and counted as time goes by; time is moved in the rows."""

from collections import Counter
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from admin_integrations import usage, vault
from admin_integrations.models import Credential, Executor
from genpulse import sql
from genpulse.events.models import Event
from genpulse.ids import new_id
from media.models import Asset
from tasks import admission, audit, chores, keeping
from tasks.models import Attempt, Chore, DeadLetter, Delivery, Task, Worker
from tests.integration.cast import caller
from tests.integration.stack import all_ended, sandbox
from wallet import services as wallet

DAY = timedelta(days=1)


@pytest.fixture
def alice(stack):
    sandbox()
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 1_000_000_000, reason="test")
    return alice


def submit(who, model="sandbox-text", key=None, **fields):
    body = {"model": model, "input": {"prompt": "secret", "sandbox": {"latency": 0}}, **fields}
    answer = who.post("/api/v1/tasks", body, **({"Idempotency_Key": key} if key else {}))
    assert answer.status_code in {200, 201}, answer.content
    return answer.json()


def age(task, **by):
    """Everything about the task happened that much earlier."""
    earlier = timedelta(**by)
    for name in ("finished_at", "purge_at"):
        Task.objects.filter(pk=task).update(**{name: F(name) - earlier})
    Event.objects.filter(task_id=task).update(at=F("at") - earlier)


def test_bodies_and_results_are_purged_in_time(alice):
    fleeting = submit(alice, "sandbox-image", key="once", store=False, metadata={"order": 7})
    month = submit(alice, "sandbox-image", retention="30d")
    for_ever = submit(alice, "sandbox-image")
    ids = [task["id"] for task in (fleeting, month, for_ever)]
    ended = {str(task.id): task for task in all_ended(ids)}
    finished = ended[month["id"]].finished_at
    assert finished is not None
    assert Asset.objects.get(task_id=month["id"]).expires_at == finished + 30 * DAY
    assert keeping.purge_contents() == 0

    age(fleeting["id"], hours=1)
    age(month["id"], days=29)
    assert keeping.purge_contents() == 1

    shown = alice.get(f"/api/v1/tasks/{fleeting['id']}").json()
    assert [shown["purged"], shown["input"], shown["output"]] == [True, None, None]
    assert [shown["status"], shown["metadata"]] == ["succeeded", {"order": 7}]
    replay = submit(alice, "sandbox-image", key="once", store=False, metadata={"order": 7})
    assert [replay["id"], replay["purged"], replay["input"]] == [fleeting["id"], True, None]
    assert not Asset.objects.filter(task_id=fleeting["id"], deleted_at=None).exists()
    for table in ("tasks_taskcontent", "events_event", "tasks_attempt"):
        [(text,)] = sql.fetch(
            f"SELECT coalesce(string_agg(t::text, ''), '') FROM {table} t WHERE task_id = %s",  # noqa: S608
            [fleeting["id"]],
        )
        assert "secret" not in text, table
    succeeded = Event.objects.get(task_id=fleeting["id"], type="task.succeeded")
    assert succeeded.data["output"] is None
    kept = alice.get(f"/api/v1/tasks/{month['id']}").json()
    assert [kept["purged"], kept["input"]["prompt"]] == [False, "secret"]
    age(month["id"], days=1)
    age(for_ever["id"], days=4000)
    assert keeping.purge_contents() == 1
    assert not audit.breaches()


def test_events_go_with_their_task(alice, monkeypatch):
    monkeypatch.setattr(keeping, "PORTION", 3)
    old, recent, running = (submit(alice)["id"] for _ in range(3))
    all_ended([old, recent, running])
    Task.objects.filter(pk=running).update(  # as if it ran for two months
        status="running", finished_at=None, charged=0, hold_id=None, quoted=0
    )
    age(old, days=31)
    Event.objects.filter(task_id__in=[recent, running]).update(at=timezone.now() - 60 * DAY)
    Event.objects.filter(task_id=None).update(at=timezone.now() - 29 * DAY)
    loose = Event.objects.create(type="wallet.low", data={}, at=timezone.now() - 31 * DAY)
    young = Event.objects.filter(task_id=None).exclude(pk=loose.pk).count()

    assert keeping.drop_old_events() > 0
    assert not Event.objects.filter(task_id=old).exists()
    assert not Event.objects.filter(pk=loose.pk).exists()
    for task in (recent, running):
        seqs = Event.objects.filter(task_id=task, seq__isnull=False).values_list("seq", flat=True)
        assert sorted(seq or 0 for seq in seqs) == [1, 2, 3, 4]
    assert Event.objects.filter(task_id=None).count() == young
    assert keeping.drop_old_events() == 0


@pytest.mark.django_db
def test_deliveries_letters_and_workers_have_their_time():
    account = caller("alice").user.account_id
    now = timezone.now()
    for status, days in (
        ("delivered", 8),
        ("delivered", 6),
        ("failed", 29),
        ("failed", 31),
        ("pending", 90),
    ):
        made = Delivery.objects.create(
            account_id=account, url="https://x.example", event_id="e", event_type="t", status=status
        )
        Delivery.objects.filter(pk=made.pk).update(created_at=now - days * DAY)
    assert keeping.drop_old_deliveries() == 2
    assert sorted(Delivery.objects.values_list("status", flat=True)) == [
        "delivered",
        "failed",
        "pending",
    ]

    DeadLetter.objects.create(source="x", error="old", failed_at=now - 31 * DAY)
    DeadLetter.objects.create(source="x", error="new", failed_at=now - 29 * DAY)
    assert keeping.drop_dead_letters() == 1
    assert DeadLetter.objects.get().error == "new"

    Worker.objects.create(name="dead", queues=[], threads=1, free=1, last_seen=now - DAY)
    Worker.objects.create(name="alive", queues=[], threads=1, free=1)
    assert keeping.forget_workers() >= 1
    assert not Worker.objects.filter(name="dead").exists()
    assert Worker.objects.filter(name="alive").exists()


@pytest.mark.django_db
def test_uses_of_a_key_are_counted_by_day():
    key = Credential.objects.create(
        id=new_id(), provider="openai", name="k", ciphertext="", last4="abcd"
    )
    usage.count(Counter({key.id: 2}))
    usage.count(Counter({key.id: 1}))
    key.refresh_from_db()
    assert [key.usage_count, key.used_today] == [3, 3]
    Credential.objects.update(used_on=F("used_on") - timedelta(days=1))
    usage.count(Counter({key.id: 1}))
    key.refresh_from_db()
    assert [key.usage_count, key.used_today] == [4, 1]
    usage.count(Counter())


def test_a_daily_quota_ends_the_use_of_a_key_and_medians_are_learned(alice):
    id_ = new_id()
    sealed = vault.encrypt("a vendor key", owner=id_)
    key = Credential.objects.create(
        id=id_, provider="sandbox", name="k", ciphertext=sealed, last4="-key", daily_quota=2
    )
    Executor.objects.get().credentials.add(key)
    all_ended([submit(alice)["id"]])
    key.refresh_from_db()
    assert [key.usage_count, key.used_today, Attempt.objects.get().credential_id] == [1, 1, key.id]
    admission.medians.clear()
    admission.refresh_medians()
    assert admission.medians == {"sandbox": 100_000.0}
    admission.medians.clear()


@pytest.mark.django_db
def test_every_chore_runs():
    Chore.objects.all().delete()
    for name in chores.CHORES:
        Chore.objects.create(name=name, every=1)
        assert chores.run(name) == "done", name
