"""The platform dialect: a service that freezes, submits and completes for its users."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pytest
from django.db import connections

from admin_integrations import routing
from admin_integrations.models import WorkflowBinding
from tasks import blocking
from tasks.models import Task
from tasks.render import extras
from tests.integration.cast import caller
from tests.integration.stack import all_ended, sandbox
from wallet import services as wallet
from wallet.models import Hold

USER = "u_001"


@pytest.fixture
def service(transactional_db):
    routing.forget()
    service = caller("shop", "act_as", "tasks", "media", "wallet", "webhooks")
    caller(USER)
    give(USER, 100)
    return service


def give(name, credits_):
    wallet.deposit(caller(name).user.account_id, credits_ * 1_000_000, reason="test")


def freeze(service, task="t1", points=10, user=USER):
    body = {"userId": user, "taskId": task, "action": "draw", "points": points}
    return service.post("/api/wallet/v1/freeze", body)


def submit(service, task="t1", points=10, **fields):
    body = {"taskId": task, "action": "draw", "userId": USER, "points": points}
    params = {"prompt": "a kite", "sandbox": {"latency": 0}}
    return service.post("/api/tasks/v1/submit", {**body, "workflowParams": params, **fields})


def read(service, task="t1"):
    return service.get(f"/api/tasks/v1/{task}?userId={USER}").json()


def said(answer):
    return answer.status_code, answer.json().get("code")


def transactions(service, user=USER):
    return service.get(f"/api/wallet/v1/transactions?userId={user}&pageSize=100").json()


def statistics(service):
    return service.get(f"/api/wallet/v1/statistics?userId={USER}").json()


def test_freeze_confirm_release(service):
    first = freeze(service).json()
    assert first["holdId"].startswith("hold_")
    assert [len(first["holdId"]), first["balance"]] == [37, 90]
    assert freeze(service).json() == first
    assert said(freeze(service, points=11)) == (409, "WALLET_HOLD_CONFLICT")
    assert said(freeze(service, "t2", 91)) == (402, "WALLET_INSUFFICIENT")
    assert freeze(service, "t3", 0).status_code == freeze(service, "t3", -1).status_code == 422

    confirm = {"holdId": first["holdId"]}
    answer = service.post("/api/wallet/v1/confirm", confirm)
    assert answer.json() == {"success": True, "deducted": 10}
    assert said(service.post("/api/wallet/v1/confirm", confirm)) == (409, "WALLET_HOLD_CONFLICT")
    assert said(service.post("/api/wallet/v1/release", confirm)) == (409, "WALLET_HOLD_CONFLICT")
    assert said(freeze(service)) == (409, "WALLET_HOLD_CONFLICT")

    second = freeze(service, "t4", 20).json()
    answer = service.post("/api/wallet/v1/release", {"hold_id": second["holdId"]}).json()
    assert answer == {"success": True, "released": 20, "userId": USER, "balance": 90}
    unknown = {"holdId": "hold_" + "0" * 32}
    assert said(service.post("/api/wallet/v1/confirm", unknown)) == (404, "WALLET_HOLD_NOT_FOUND")
    stranger = caller("bob", "wallet")
    third = freeze(service, "t5", 1).json()
    answer = stranger.post("/api/wallet/v1/release", {"holdId": third["holdId"]})
    assert said(answer) == (404, "WALLET_HOLD_NOT_FOUND")


def test_the_ledger_read_back(service):
    give("a_b_c", 50)
    held = freeze(service, "x", 7, "a_b_c").json()
    released = service.post("/api/wallet/v1/release", {"holdId": held["holdId"]}).json()
    assert [released["userId"], released["balance"]] == ["a_b_c", 50]
    service.post("/api/wallet/v1/confirm", {"holdId": freeze(service, "y", 3).json()["holdId"]})
    freeze(service, "z", 5)

    listed = transactions(service)
    assert listed["total"] == len(listed["items"]) == 4
    kinds = [item["changeType"] for item in reversed(listed["items"])]
    assert kinds == ["deposit", "freeze", "confirm", "freeze"]
    assert [item["taskId"] for item in listed["items"][:3]] == ["z", "y", "y"]
    in_order = list(reversed(listed["items"]))
    assert in_order[0]["beforeBalance"] == 0
    for earlier, later in pairwise(in_order):
        assert earlier["afterBalance"] == later["beforeBalance"]
    assert sum(item["points"] for item in in_order) == 92
    assert statistics(service) == {
        "totalPoints": 97,
        "tempPoints": 0,
        "frozenPoints": 5,
        "grantedToday": 100,
    }
    assert said(caller("eve").get(f"/api/wallet/v1/statistics?userId={USER}")) == (
        403,
        "USER_MISMATCH",
    )


def test_fifty_freezes_at_once_for_a_hundred_points(service):
    def one(index):
        try:
            return freeze(service, f"t{index}").status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(50)))
    assert sorted(answers) == [200] * 10 + [402] * 40
    assert statistics(service)["frozenPoints"] == 100
    assert sum(item["points"] for item in transactions(service)["items"]) == 0


def test_submit_is_idempotent_and_adopts_the_hold(service):
    freeze(service)
    assert submit(service).json() == {"taskId": "t1", "status": "pending"}
    assert submit(service).json() == {"taskId": "t1", "status": "pending"}
    assert said(submit(service, title="another")) == (409, "TASK_CONFLICT")
    assert Task.objects.count() == Hold.objects.count() == 1
    assert statistics(service)["frozenPoints"] == 10
    hold = f"hold_{Hold.objects.get().id.hex}"
    answer = service.post("/api/wallet/v1/release", {"holdId": hold})
    assert said(answer) == (409, "WALLET_HOLD_CONFLICT")

    freeze(service, "t2", 5)
    assert said(submit(service, "t2", 6)) == (409, "WALLET_HOLD_CONFLICT")
    assert said(submit(service, "t3", 500)) == (402, "WALLET_INSUFFICIENT")
    assert said(service.get("/api/tasks/v1/nothing")) == (404, "TASK_NOT_FOUND")


def test_without_a_binding_it_waits_until_there_is_one(service):
    submit(service)
    blocking.review()
    shown = read(service)
    assert [shown["status"], shown["errorMessage"]] == ["blocked", "NO_BINDING_AVAILABLE"]
    assert [shown["points"], shown["action"], shown["resultUrl"]] == [10, "draw", None]
    assert Task.objects.get().status == "blocked"
    listed = service.get(f"/api/tasks/v1?userId={USER}&action=draw&status=blocked").json()
    assert [listed["total"], listed["page"], listed["size"]] == [1, 0, 20]

    submit(service, "t2")
    sandbox(status="paused")
    WorkflowBinding.objects.create(action="draw", model="sandbox-image")
    routing.forget()
    blocking.review()
    task = Task.objects.get(external_id="t1")
    assert [task.status, task.provider, task.model] == ["queued", "sandbox", "sandbox-image"]
    answer = service.post(f"/api/tasks/v1/t2/cancel?userId={USER}")
    assert answer.json() == {"taskId": "t2", "status": "cancelled"}
    assert statistics(service)["frozenPoints"] == 10


def test_a_submit_says_what_it_made_and_names_its_own_fields(service):
    sandbox(status="paused")
    WorkflowBinding.objects.create(action="draw", model="sandbox-image")
    routing.forget()
    controls = {"latency": 1}
    params = {"prompt": "kite", "imageList": []}
    answer = submit(service, workflowParams=params, sandbox=controls)
    task = Task.objects.get()
    assert answer["X-GenPulse-Task-Id"] == str(task.id)
    assert extras([task.id])[task.id].input == {"prompt": "kite", "sandbox": controls}
    bad = {"prompt": "kite", "imageList": ["http://10.0.0.1/kite.png"]}
    refused = submit(service, "t2", workflowParams=bad).json()
    assert refused["detail"].startswith("workflowParams.imageList.0:")
    pending = service.get(f"/api/tasks/v1?userId={USER}&status=pending").json()
    assert pending["total"] == 1
    assert service.get("/api/tasks/v1/t1/x").json()["code"] == "NOT_FOUND"


def test_what_nobody_has_looked_at_yet_is_listed_as_it_is_shown(service):
    submit(service)
    shown = service.get(f"/api/tasks/v1?userId={USER}&status=blocked").json()["items"]
    assert [item["status"] for item in shown] == ["blocked"]
    assert service.get(f"/api/tasks/v1?userId={USER}&status=pending").json()["total"] == 0


def test_completed_from_outside(service):
    submit(service)
    submit(service, "t2")
    personal = caller(USER)
    assert said(personal.post("/api/tasks/v1/t1/complete", {})) == (403, "ADMIN_ONLY")
    done = service.post(
        f"/api/tasks/v1/t1/complete?success=true&userId={USER}",
        {"resultUrl": "https://x.example/1.png"},
    )
    assert done.json() == {"status": "completed", "deducted": 10}
    assert read(service)["resultUrl"] == "https://x.example/1.png"
    again = service.post(f"/api/tasks/v1/t1/complete?success=false&userId={USER}", {})
    assert again.json() == {"status": "completed", "deducted": 10}
    failed = service.post("/api/tasks/v1/t2/complete?success=false", {"errorMessage": "no luck"})
    assert failed.json() == {"status": "failed", "balance": 90}
    assert read(service, "t2")["errorMessage"] == "no luck"
    assert said(service.post("/api/tasks/v1/t9/complete", {})) == (404, "TASK_NOT_FOUND")


def test_a_bound_action_runs_by_itself(stack, service):
    sandbox()
    WorkflowBinding.objects.create(action="draw", model="sandbox-image")
    routing.forget()
    submit(service)
    params = {"prompt": "x", "sandbox": {"fail": "content_refused", "latency": 0}}
    submit(service, "t2", workflow_params=None, workflowParams=params)
    all_ended(list(Task.objects.values_list("pk", flat=True)))
    good, bad = read(service), read(service, "t2")
    assert [good["status"], good["progress"], len(good["results"])] == ["completed", 100, 1]
    assert good["resultUrl"].startswith("http")
    assert bad["status"] == "failed"
    assert bad["errorMessage"]
    has = statistics(service)
    assert [has["totalPoints"], has["frozenPoints"]] == [90, 0]


def test_operators_only(service):
    root = caller("root", "admin")
    assert root.post("/api/tasks/v1/dispatch?limit=5").json() == {"dispatched": 0}
    assert said(service.post("/api/tasks/v1/dispatch")) == (403, "ADMIN_ONLY")
    assert root.post("/api/notify/v1/event", {"userId": USER, "x": 1}).json() == {"success": True}
    assert said(service.post("/api/notify/v1/event", {})) == (403, "ADMIN_ONLY")


def test_a_drained_queue_ends_no_work_that_waits_for_a_binding(service):
    """It is bound when the queue is open again."""
    sandbox()
    root = caller("root", "admin")
    assert submit(service).status_code == 200
    WorkflowBinding.objects.create(action="draw", model="sandbox-image")
    routing.forget()
    assert root.post("/api/v1/queues/sandbox/drain", {}).status_code == 200
    assert said(submit(service, "t2")) == (503, "FAMILY_DRAINING")
    blocking.review()
    assert Task.objects.get().status in {"queued", "blocked"}
    assert root.post("/api/v1/queues/sandbox/resume", {}).status_code == 200
    blocking.review()
    assert Task.objects.get().provider == "sandbox"


def test_what_is_not_there_yet_is_not_found_in_the_platforms_words(service):
    for path in ("media/v1/sts", "abilities", "ability-tasks/x", "agent/auth/verify", "notify/x"):
        answer = service.get(f"/api/{path}")
        assert said(answer) == (404, "NOT_FOUND"), path
        assert set(answer.json()) == {"detail", "code", "request_id"}
