"""Vendors that cannot be asked, and vendors that cannot be stopped."""

from collections import deque

import pytest

from admin_integrations import fleet, vault
from admin_integrations.models import Credential, Executor
from genpulse.events.models import Event
from genpulse.ids import new_id
from tasks import audit
from tasks.models import Attempt
from tests.chaos.vendors import IMAGES, Painter
from tests.emulators.base import as_fixture, drop_answer, drop_request
from tests.emulators.volcengine import KEY, Ark
from tests.integration.cast import caller
from tests.integration.providers.volcengine_calls import JOBS_PATH, VIDEO
from tests.integration.stack import all_ended, eventually
from wallet.models import PriceRule

painter = as_fixture(Painter)
ark = as_fixture(Ark)


def executor(kind, url, key, **config):
    made = Executor.objects.create(
        name=f"{kind}-1", type=kind, base_url=url, max_concurrency=4, config=config
    )
    id_ = new_id()
    sealed = vault.encrypt(key, owner=id_)
    made.credentials.add(
        Credential.objects.create(id=id_, provider=kind, name="k", ciphertext=sealed, last4="0000")
    )
    fleet.forget()
    return made


def submit(who, model):
    answer = who.post("/api/v1/tasks", {"model": model, "input": {"prompt": "a red kite"}})
    assert answer.status_code == 201, answer.content
    return answer.json()["id"]


@pytest.mark.parametrize(("choice", "creates"), [("retry_once", 2), ("fail", 1)])
def test_the_operator_chooses_what_follows_the_unknown(stack, painter, choice, creates):
    from providers.testing import CREDENTIAL

    executor("openai", painter.base, CREDENTIAL, after_unknown=choice)
    painter.next("POST", IMAGES, *[drop_answer()] * 5)
    task = submit(caller("alice"), "gpt-image-2")
    [done] = all_ended([task])
    assert done.taskcontent.error
    assert [done.status, done.taskcontent.error["code"]] == ["failed", "outcome_unknown"]
    assert painter.count("POST", IMAGES) == creates
    assert Attempt.objects.filter(task_id=task, possible_cost=True).count() == creates
    assert Event.objects.get(type="audit.outcome_unknown").data["task_id"] == task
    assert not audit.breaches()


def test_a_create_is_sent_again_when_two_looks_have_not_found_it(stack, ark):
    """The list of jobs may lag behind: what the first look misses may be there at the second."""
    executor("volcengine", ark.base_url, KEY)
    ark.next("POST", JOBS_PATH, drop_request())
    ark.states.append(("queued",))
    alice = caller("alice")
    task = submit(alice, VIDEO)
    eventually(lambda: ark.jobs)
    looked = (r for r in ark.journal if r.query.get("page_size") != ["1"])  # a probe asks for one
    seen = [r for r in looked if r.path == JOBS_PATH]
    assert [r.method for r in seen[:4]] == ["POST", "GET", "GET", "POST"]
    alice.post(f"/api/v1/tasks/{task}/cancel")
    all_ended([task])


def test_a_job_that_cannot_be_stopped_is_let_go_and_its_cost_is_booked(stack, ark):
    """Ark cancels only what waits. The user waits for nothing and pays nothing; the operator sees the cost."""
    PriceRule.objects.create(
        kind="cost",
        match_by="model",
        match_value=VIDEO,
        components=[{"unit": "call", "price": "3"}],
    )
    executor("volcengine", ark.base_url, KEY)
    ark.states.append(("running",))
    alice = caller("alice")
    task = submit(alice, VIDEO)
    eventually(lambda: Attempt.objects.filter(task_id=task, stage="accepted").exists())
    alice.post(f"/api/v1/tasks/{task}/cancel")
    [done] = all_ended([task])
    assert [done.status, done.charged] == ["canceled", 0]

    [job] = ark.jobs.values()
    assert job.status == "running"
    job.states = deque(["succeeded"])
    attempt = eventually(
        lambda: Attempt.objects.filter(task_id=task, stage="closed", late=True).first(), 60
    )
    assert attempt
    assert attempt.vendor_cost == 3_000_000
    shown = alice.get(f"/api/v1/tasks/{task}").json()
    assert [shown["status"], shown["output"], shown["price"]["charged"]] == ["canceled", None, "0"]
    [late] = caller("root", "admin").get("/api/v1/attempts?late=1").json()["items"]
    assert late["task_id"] == task
    assert not audit.breaches()
