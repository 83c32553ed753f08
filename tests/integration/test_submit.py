"""Submit: every field's limits, money before rows, twins and crashes. Nothing is stored or held by a refusal."""

import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import pytest

from genpulse.events.models import Event
from tasks import audit, verbs
from tasks.models import Batch, Task, TaskContent
from tests.integration.cast import caller
from tests.integration.crowd import at_once
from tests.integration.stack import ROOT, Stack, sandbox
from wallet import services as wallet
from wallet.models import Hold

URL = "/api/v1/tasks"
GOOD = {"model": "sandbox-text", "input": {"prompt": "hi"}}
HOOK = {"url": "http://127.0.0.1:9/hook"}


@pytest.fixture
def alice(db):
    sandbox()
    alice = caller("alice", "tasks", "media")
    wallet.deposit(alice.user.account_id, 100_000_000, reason="test")
    return alice


def nothing_happened(alice):
    assert not Task.objects.exists()
    assert not Batch.objects.exists()
    assert not Hold.objects.exists()
    assert wallet.balance(alice.user.account_id).available == 100_000_000


@pytest.mark.parametrize(
    ("change", "field", "code"),
    [
        ({"model": None}, "model", "required"),
        ({"model": 7}, "model", "type"),
        ({"model": ""}, "model", "empty"),
        ({"model": "x" * 201}, "model", "too_long"),
        ({"model": ["sandbox-text", "nobody-knows"]}, "model.1", "unknown_model"),
        ({"model": ["sandbox-text"] * 2}, "model", "unique"),
        ({"model": [f"sandbox-{n}" for n in range(6)]}, "model", "too_long"),
        ({"workflow": "w"}, "workflow", "exclusive"),
        ({"ability": "a"}, "ability", "exclusive"),
        ({"model": None, "provider": "sandbox"}, "model", "required"),
        ({"input": None}, "input", "required"),
        ({"input": "text"}, "input", "type"),
        ({"input": {"prompt": 5}}, "input.prompt", "type"),
        ({"input": {"prompt": "x" * 100_001}}, "input.prompt", "too_long"),
        ({"input": {"prompt": "x", "nonsense": 1}}, "input.nonsense", "unknown"),
        ({"task_type": "sculpture"}, "task_type", "choice"),
        ({"priority": "urgent"}, "priority", "choice"),
        ({"priority": 10}, "priority", "choice"),
        ({"surprise": 1}, "surprise", "unknown"),
        ({"metadata": {"x": "y" * 9000}}, "metadata", "too_long"),
        ({"tags": ["x"] * 11}, "tags", "too_long"),
        ({"tags": ["x" * 65]}, "tags.0", "too_long"),
        ({"tags": [""]}, "tags.0", "empty"),
        ({"run_at": "tomorrow"}, "run_at", "format"),
        ({"run_at": "2026-11-21T10:00:00"}, "run_at", "format"),
        ({"run_at": "2099-01-01T00:00:00Z"}, "run_at", "too_large"),
        ({"start_within": 0}, "start_within", "too_small"),
        ({"start_within": "8d"}, "start_within", "too_large"),
        ({"timeout": "25h"}, "timeout", "too_large"),
        ({"timeout": "soon"}, "timeout", "format"),
        ({"max_price": "-1"}, "max_price", "too_small"),
        ({"max_price": "1.0000001"}, "max_price", "format"),
        ({"max_attempts": 0}, "max_attempts", "too_small"),
        ({"max_attempts": 11}, "max_attempts", "too_large"),
        ({"executor": {"only": ["gpu-9"]}}, "executor.only", "choice"),
        ({"executor": {"where": "here"}}, "executor.where", "unknown"),
        ({"executor": "gpu-9"}, "executor", "choice"),
        ({"retention": 60}, "retention", "too_small"),
        ({"retention": "2h", "store": False}, "retention", "exclusive"),
        ({"conversation_id": "x" * 129}, "conversation_id", "too_long"),
        ({"webhook": {"url": "ftp://example.com"}}, "webhook.url", "choice"),
        ({"webhook": {"url": "http://10.0.0.1/"}}, "webhook.url", "choice"),
        ({"webhook": {}}, "webhook.url", "required"),
        ({"webhook": {**HOOK, "events": ["task.*", "task.sneezed"]}}, "webhook.events.1", "choice"),
        ({"webhook": {**HOOK, "events": ["wallet.held"]}}, "webhook.events.0", "choice"),
        ({"webhook": {**HOOK, "events": []}}, "webhook.events", "empty"),
        ({"store": "no"}, "store", "type"),
        ({"stream": 1}, "stream", "type"),
    ],
)
def test_a_bad_field_is_named_and_nothing_is_stored(alice, change, field, code):
    body = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    answer = alice.post(URL, body)
    assert answer.status_code == 422, answer.content
    errors = answer.json()["errors"]
    assert (field, code) in {(item["field"], item["code"]) for item in errors}, errors
    nothing_happened(alice)


def test_an_unknown_model_names_the_families(alice):
    answer = alice.post(URL, {"model": "nobody-knows", "input": {"prompt": "x"}})
    assert answer.json()["code"] == "unknown_model"
    assert "sandbox" in answer.json()["known"]
    nothing_happened(alice)


def test_not_enough_credits_stores_nothing(alice):
    poor = caller("bob", "tasks")
    for url, body in ((URL, GOOD), ("/api/v1/batches", {**GOOD, "items": [{}]})):
        answer = poor.post(url, body, Idempotency_Key="k")
        assert answer.status_code == 402
        assert [answer.json()["required"], answer.json()["available"]] == ["0.1", "0"]
        nothing_happened(alice)
    wallet.deposit(poor.user.account_id, 100_000, reason="test")
    made = poor.post(URL, GOOD, Idempotency_Key="k")  # the refusal has left the key free
    assert [made.status_code, "Idempotency-Replayed" in made] == [201, False]
    assert wallet.balance(poor.user.account_id).held == 100_000


def test_a_quote_above_max_price_is_refused(alice):
    answer = alice.post(URL, {**GOOD, "max_price": "0.05"})
    assert [answer.json()["code"], answer.json()["price"]] == ["max_price_exceeded", "0.1"]
    nothing_happened(alice)


def test_the_quote_is_what_submit_holds(alice):
    body = {"model": "sandbox-image", "input": {"prompt": "kite", "n": 3}}
    quote = alice.post("/api/v1/quote", body).json()
    nothing_happened(alice)
    task = alice.post(URL, body).json()
    assert quote["price"] == task["price"]["held"] == "3"
    assert [quote["affordable"], quote["feasible"]] == [True, True]


def test_a_batch_is_all_or_nothing(alice):
    body = {
        "model": "sandbox-text",
        "input": {"prompt": "x"},
        "items": [{}, {}, {}, {"input": {"prompt": 5}}],
    }
    answer = alice.post("/api/v1/batches", body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "items.3.input.prompt"
    nothing_happened(alice)
    nobodys = {"models": ["sandbox-text", "nobodys-model"], "input": {"prompt": "x"}}
    [problem] = alice.post("/api/v1/batches", nobodys).json()["errors"]
    assert [problem["field"], problem["code"]] == ["models.1", "unknown_model"]
    many = {
        "model": "sandbox-image",
        "input": {"prompt": "x"},
        "matrix": {"seed": list(range(101))},
    }
    assert alice.post("/api/v1/batches", many).status_code == 402
    nothing_happened(alice)


def test_children_stand_in_the_stated_order(alice):
    body = {
        "models": ["sandbox-text", "sandbox-image"],
        "matrix": {"prompt": ["a", "b"], "seed": [1, 2]},
        "input": {},
    }
    batch = alice.post("/api/v1/batches", body).json()
    rows = TaskContent.objects.filter(task__batch_id=batch["id"]).order_by("task__batch_index")
    given = [(row.task.model, row.input or {}) for row in rows]
    shown = [(model, values["prompt"], values["seed"]) for model, values in given]
    assert shown == [
        (model, prompt, seed)
        for model in ("sandbox-text", "sandbox-image")
        for prompt in ("a", "b")
        for seed in (1, 2)
    ]
    assert batch["price"]["held"] == "4.4"


def test_data_uris_become_assets_before_anything_is_stored(alice):
    pixel = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
        "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    body = {"model": "sandbox-image", "input": {"prompt": "x", "images": [pixel]}}
    task = alice.post(URL, body).json()
    assert task["task_type"] == "image-to-image"
    assert task["input"]["images"][0].startswith("asset:")
    assert "base64" not in str(TaskContent.objects.get(pk=task["id"]).input)


def test_another_owner_sees_nothing(alice):
    task = alice.post(URL, GOOD).json()
    bob = caller("bob")
    for method, path in [
        ("GET", ""),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/promote"),
        ("DELETE", ""),
    ]:
        assert bob(method, f"{URL}/{task['id']}{path}").status_code == 404
    assert bob.get(URL).json()["items"] == []
    assert alice.get(f"{URL}/not-a-uuid").status_code == 404


def test_lists_walk_every_task_once(alice):
    made = [alice.post(URL, {**GOOD, "tags": ["t"]}).json()["id"] for _ in range(7)]
    seen, cursor = [], ""
    while cursor is not None:
        page = alice.get(f"{URL}?limit=3&tag=t&cursor={cursor}").json()
        seen += [item["id"] for item in page["items"]]
        alice.post(URL, GOOD)
        cursor = page["next_cursor"]
    assert seen == made[::-1]
    for words in ("status", "task_type", "source", "priority", "terminal"):
        assert alice.get(f"{URL}?{words}=nonsense").status_code == 422
    for words in ("task_type=text", "priority=5", "source=native"):
        assert alice.get(f"{URL}?{words}").json()["items"]
    assert len(alice.get(f"{URL}?q=hi&status=queued,running&terminal=false").json()["items"]) > 7


def test_clone_and_retry(alice):
    task = alice.post(URL, {**GOOD, "input": {"prompt": "hi", "seed": 1}}).json()
    clone = alice.post(f"{URL}/{task['id']}/clone", {"input": {"seed": 9}}).json()
    assert clone["input"] == {"prompt": "hi", "seed": 9}
    assert clone["cloned_from"] == task["id"]
    assert alice.post(f"{URL}/{task['id']}/retry").json()["code"] == "not_retryable"
    alice.post(f"{URL}/{task['id']}/cancel")
    first = alice.post(f"{URL}/{task['id']}/retry")
    second = alice.post(f"{URL}/{task['id']}/retry")
    assert [first.status_code, second.status_code] == [201, 200]
    assert first.json()["id"] == second.json()["id"]
    assert first.json()["retry_of"] == task["id"]


def test_many_at_once_are_counted(alice):
    mine = [alice.post(URL, GOOD).json()["id"] for _ in range(3)]
    bob = caller("bob")
    assert bob.post(f"{URL}/cancel", {"ids": mine}).json()["not_found"] == 3
    done = alice.post(f"{URL}/cancel", {"ids": mine[:2]}).json()
    assert [done["matched"], done["canceled"]] == [2, 2]
    done = alice.post(f"{URL}/cancel", {"filter": {"status": "queued"}}).json()
    assert done == {
        "matched": 1,
        "canceled": 1,
        "requested": 0,
        "unchanged": 0,
        "not_found": 0,
        "has_more": False,
    }
    assert alice.post(f"{URL}/cancel", {"filter": {}}).status_code == 422
    assert alice.post(f"{URL}/cancel", {"filter": {"user": "bob"}}).status_code == 403
    service = caller("service", "tasks", "act_as")
    for whose, matched in (
        ({}, False),
        ({"user": "alice"}, True),
    ):  # its own are meant, or who is named
        wish = {"filter": {"terminal": True, **whose}}
        assert bool(service.post(f"{URL}/cancel", wish).json()["matched"]) is matched
    assert alice.post(f"{URL}/cancel", {"ids": ["0" * 8] * 2}).status_code == 422
    assert wallet.balance(alice.user.account_id).held == 0


@pytest.mark.parametrize(
    ("wish", "field", "code"),
    [
        ({"status": "asleep"}, "filter.status", "choice"),
        ({"task_type": "sculpture"}, "filter.task_type", "choice"),
        ({"terminal": "perhaps"}, "filter.terminal", "choice"),
        ({"colour": "red"}, "filter.colour", "unknown"),
        ({}, "filter", "empty"),
    ],
)
def test_a_bad_filter_is_named_by_its_place(alice, wish, field, code):
    for verb in ("cancel", "retry"):
        [error] = alice.post(f"{URL}/{verb}", {"filter": wish}).json()["errors"]
        assert (error["field"], error["code"]) == (field, code)


def test_the_words_a_webhook_may_ask_for_are_said(alice):
    """Of its own task or batch, by name or group; what is never delivered is not taken."""
    for event in ("*", "task.*", "batch.*", "task.succeeded", "batch.partial"):
        answer = alice.post(URL, {**GOOD, "webhook": {**HOOK, "events": [event]}})
        assert answer.status_code == 201, answer.content
    said = alice.post(URL, {**GOOD, "webhook": {**HOOK, "events": ["task.progress"]}}).json()
    assert "task.succeeded" in said["errors"][0]["message"]


def test_limits_of_waiting_tasks_and_budgets(alice):
    account = alice.user.account
    account.max_waiting = 2
    account.save()
    answers = [alice.post(URL, GOOD).status_code for _ in range(3)]
    assert answers == [201, 201, 429]
    account.max_waiting, account.budget_amount, account.budget_window = 0, 300_000, "day"
    account.save()
    assert alice.post(URL, GOOD).status_code == 201
    assert alice.post(URL, GOOD).json()["code"] == "budget_exceeded"


@pytest.mark.django_db(transaction=True)
def test_twins_make_one_task_each(monkeypatch):
    """E19: the same Idempotency-Key from many threads."""
    sandbox()
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 10**9, reason="test")
    keys, twins = 8, 6

    def act(number):
        answer = caller_of(alice)("POST", URL, GOOD, Idempotency_Key=f"key-{number % keys}")
        return (
            number % keys,
            answer.status_code,
            answer.headers.get("Idempotency-Replayed"),
            answer.json(),
        )

    answers = at_once(keys * twins, act)
    assert {status for _, status, _, _ in answers} == {201}
    assert sum(replayed == "true" for _, _, replayed, _ in answers) == keys * (twins - 1)
    assert Task.objects.count() == Hold.objects.count() == keys
    for key in range(keys):
        assert len({body["id"] for number, _, _, body in answers if number == key}) == 1
    other = alice("POST", URL, {**GOOD, "priority": "low"}, Idempotency_Key="key-1")
    assert [other.status_code, other.json()["code"]] == [422, "idempotency_key_reused"]
    assert not audit.breaches()


def caller_of(someone):
    """The same credential with a client of its own, for a thread."""
    from django.test import Client

    from tests.integration.cast import Caller

    return Caller(someone.headers, someone.user, someone.key, Client())


@pytest.mark.django_db(transaction=True)
def test_crossed_groups_never_deadlock():
    """Many threads cancel the same tasks in opposite orders: every hold is released exactly once."""
    sandbox()
    alice, bob = caller("alice"), caller("bob")
    for who in (alice, bob):
        wallet.deposit(who.user.account_id, 10**9, reason="test")
    for number in range(24):
        later = {**GOOD, "run_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
        (alice if number % 2 else bob).post(URL, later)
    ids = list(Task.objects.values_list("pk", flat=True))

    def act(number):
        mine = ids if number % 2 else ids[::-1]
        return sum(done.ok for done in verbs.cancel(mine, by=f"thread {number}"))

    assert sum(at_once(8, act)) == len(ids)
    assert wallet.balance(alice.user.account_id).held == 0
    assert not audit.breaches()


CRASHING = """
import os, signal, sys
import django; django.setup()
from django.db import transaction
from genpulse.auth import services as auth
from tasks import drafts, services
from tasks.drafts import Actor
from tasks.requests import TaskBody
user = auth.find_user("alice")
actor = Actor(account_id=user.account_id, account="alice")
made = drafts.draft(actor, TaskBody(model="sandbox-text", input={"prompt": "x"}))
if sys.argv[1] == "before":
    with transaction.atomic():
        services.write(actor, [made])
        os.kill(os.getpid(), signal.SIGKILL)
else:
    from genpulse.events import log
    log.ring = lambda messages: os.kill(os.getpid(), signal.SIGKILL)
    with transaction.atomic():
        services.write(actor, [made])
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("moment", "tasks"), [("before", 0), ("after", 1)])
def test_a_process_that_dies_around_its_commit(moment, tasks):
    """E05: dead before the commit leaves nothing. E04: dead after it leaves a whole task, bell or not."""
    sandbox()
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 10**9, reason="test")
    events = Event.objects.count()
    done = subprocess.run(
        [sys.executable, "-c", CRASHING, moment], cwd=ROOT, env=Stack().environment, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert Task.objects.count() == Hold.objects.count() == tasks
    assert (Event.objects.count() > events) == bool(tasks)
    assert not audit.breaches()
