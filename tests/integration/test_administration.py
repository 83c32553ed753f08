"""Operators change executors, workflows, bindings, vendor keys and the upload blacklist over the platform dialect."""

import pytest

from admin_integrations import fleet, health, routing, vault
from admin_integrations.models import Cooldown, Credential, Executor, WorkflowBinding
from genpulse.ids import new_id
from tasks import departures
from tests.integration.cast import caller, nobody
from tests.integration.stack import sandbox

pytestmark = pytest.mark.django_db
EXECUTORS, WORKFLOWS = "/api/admin/executors", "/api/admin/workflows"
BINDINGS, KEYS = "/api/admin/workflow-bindings", "/api/admin/api-keys"
BLACKLIST = "/api/admin/upload-blacklist"
SECRET = "sk-canary-0123456789-abcd"
GRAPH = {
    "1": {"class_type": "CLIPTextEncode", "inputs": {"text": "x"}, "_meta": {"title": "INPUT_p"}}
}
UI = {"nodes": [{"id": 1, "type": "KSampler"}], "links": []}


@pytest.fixture
def root():
    return caller("root", "admin")


def made(root, path, **body):
    answer = root.post(path, body)
    assert answer.status_code == 200, answer.content
    return answer.json()


def refused(answer):
    body = answer.json()
    assert set(body) == {"detail", "code", "request_id"}
    return answer.status_code, body["code"]


def workflow(root, **more):
    body = {"name": "kite", "type": "comfyui", "status": "active", "definition": GRAPH, **more}
    return made(root, WORKFLOWS, **body)


@pytest.mark.parametrize("path", [EXECUTORS, WORKFLOWS, BINDINGS, KEYS, BLACKLIST])
def test_only_admins_get_in(path):
    for method in ("GET", "POST"):
        assert refused(nobody()(method, path)) == (401, "AUTHORIZATION_REQUIRED")
        assert refused(caller("alice")(method, path)) == (403, "ADMIN_ONLY")
    for method in ("GET", "PUT", "DELETE"):
        if (path, method) != (BLACKLIST, "PUT"):
            assert refused(caller("alice")(method, f"{path}/{new_id()}")) == (403, "ADMIN_ONLY")


class TestExecutors:
    def test_a_life(self, root):
        one = made(
            root, EXECUTORS, name="gpu-1", type="comfyui", baseUrl="http://10.0.0.8:8188", x=1
        )
        assert {k: v for k, v in one.items() if k not in {"id", "created_at", "updated_at"}} == {
            "name": "gpu-1",
            "type": "comfyui",
            "base_url": "http://10.0.0.8:8188",
            "dispatch": "celery",
            "status": "active",
            "weight": 1,
            "max_concurrency": 1,
            "region": "",
            "tags": [],
            "config": {},
            "api_key_ids": [],
            "health_status": "unknown",
            "last_heartbeat_at": None,
        }
        assert one["created_at"] <= one["updated_at"]
        url = f"{EXECUTORS}/{one['id']}"
        assert root.get(EXECUTORS).json() == [one]
        assert root.get(url).json() == one
        changed = root("PUT", url, {"weight": 3, "tags": ["fast"], "region": None}).json()
        assert changed == {
            **one,
            "weight": 3,
            "tags": ["fast"],
            "updated_at": changed["updated_at"],
        }
        [view] = fleet.current().executors
        assert (view.weight, view.tags) == (3, ("fast",))
        # What was read may be sent back.
        assert root("PUT", url, {**changed, "max_concurrency": 2}).json()["max_concurrency"] == 2
        assert root.delete(url).json() == {"status": "deleted"}
        for method in ("GET", "PUT", "DELETE"):
            assert refused(root(method, url, {})) == (404, "EXECUTOR_NOT_FOUND")
        assert refused(root.get(f"{EXECUTORS}/nonsense")) == (404, "EXECUTOR_NOT_FOUND")
        assert fleet.current().executors == ()

    def test_lists_are_pages(self, root):
        names = [f"e-{n}" for n in range(5)]
        for name in names:
            made(root, EXECUTORS, name=name, type="sandbox")
        page = root.get(f"{EXECUTORS}?limit=2&offset=1").json()
        assert [one["name"] for one in page] == names[1:3]
        assert root.get(f"{EXECUTORS}?limit=0").status_code == 422
        assert root.get(f"{EXECUTORS}?offset=-1").status_code == 422

    @pytest.mark.parametrize(
        ("change", "problem"),
        [
            ({"type": "teapot"}, (400, "EXECUTOR_TYPE_UNKNOWN")),
            ({"name": "sandbox-1"}, (400, "EXECUTOR_NAME_TAKEN")),
            ({"name": ""}, (422, "VALIDATION_FAILED")),
            ({"name": None}, (422, "VALIDATION_FAILED")),
            ({"status": "asleep"}, (422, "VALIDATION_FAILED")),
            ({"weight": 0}, (422, "VALIDATION_FAILED")),
            ({"max_concurrency": 0}, (422, "VALIDATION_FAILED")),
            ({"base_url": "ftp://x"}, (422, "VALIDATION_FAILED")),
            ({"base_url": "http://u:p@x"}, (422, "VALIDATION_FAILED")),
            ({"api_key_ids": [str(new_id())]}, (422, "VALIDATION_FAILED")),
        ],
    )
    def test_mistakes_change_nothing(self, root, change, problem):
        sandbox()
        other = made(root, EXECUTORS, name="other", type="sandbox")
        body = {"name": "new", "type": "sandbox", **change}
        assert refused(root.post(EXECUTORS, body)) == problem
        assert refused(root("PUT", f"{EXECUTORS}/{other['id']}", change)) == problem
        assert Executor.objects.count() == 2
        assert root.get(f"{EXECUTORS}/{other['id']}").json() == other

    def test_a_mistake_is_located(self, root):
        answer = root.post(EXECUTORS, {"type": "sandbox", "maxConcurrency": "many"}).json()
        assert {tuple(item["loc"]): item["type"] for item in answer["detail"]} == {
            ("body", "name"): "missing",
            ("body", "max_concurrency"): "type_error",
        }

    def test_health_follows_from_the_cooldowns(self, root):
        one = sandbox()
        url = f"{EXECUTORS}/{one.id}"
        health.cool(one.id, None, "sandbox-image", "circuit_open", 60)
        assert root.get(url).json()["health_status"] == "degraded"
        health.cool(one.id, None, "", "unhealthy", 60)
        assert root.get(url).json()["health_status"] == "down"
        root("PUT", url, {"status": "active"})
        assert root.get(url).json()["health_status"] == "unknown"


class TestKeys:
    def test_a_key_goes_in_and_never_comes_out(self, root):
        one = made(root, KEYS, provider="openai", name="main", key=SECRET)
        assert (one["key_masked"], one["status"]) == ("****abcd", "active")
        stored = Credential.objects.get()
        assert SECRET not in stored.ciphertext
        assert vault.decrypt(stored.ciphertext, owner=stored.id) == SECRET
        url = f"{KEYS}/{one['id']}"
        for answer in (root.get(KEYS), root.get(url), root("PUT", url, {"name": "renamed"})):
            assert answer.status_code == 200
            assert SECRET.encode() not in answer.content
            assert b"ciphertext" not in answer.content
        assert vault.decrypt(Credential.objects.get().ciphertext, owner=stored.id) == SECRET
        assert root.delete(url).json() == {"status": "deleted"}
        assert refused(root.get(url)) == (404, "API_KEY_NOT_FOUND")

    def test_a_name_counts_once_for_a_provider(self, root):
        made(root, KEYS, provider="openai", name="main", key=SECRET)
        made(root, KEYS, provider="gemini", name="main", key=SECRET)
        again = root.post(KEYS, {"provider": "openai", "name": "main", "key": "other"})
        assert refused(again) == (400, "API_KEY_NAME_TAKEN")

    def test_a_short_key_shows_nothing(self, root):
        assert made(root, KEYS, provider="x", name="y", key="abcd")["key_masked"] == "****"

    def test_status_tells_why_it_is_not_used(self, root):
        one = made(root, KEYS, provider="openai", name="main", key=SECRET, daily_quota=1)
        key, url = Credential.objects.get(), f"{KEYS}/{one['id']}"

        def status():
            return root.get(url).json()["status"]

        health.cool(sandbox().id, key.id, "m", "rate_limited", 60)
        assert [status(), bool(root.get(url).json()["cooldown_until"])] == ["cooling", True]
        health.cool(sandbox("s2").id, key.id, "", "quota_exhausted", 60)
        assert status() == "exhausted"
        health.cool(sandbox("s3").id, key.id, "", "bad_credentials", None)
        assert status() == "disabled"
        # Reading it and sending it back is no wish; saying `active`, or a new key, is one.
        root("PUT", url, {"status": "exhausted"})
        assert status() == "disabled"
        root("PUT", url, {"status": "active"})
        assert [status(), Cooldown.objects.count()] == ["active", 0]
        health.cool(sandbox("s4").id, key.id, "", "bad_credentials", None)
        root("PUT", url, {"key": SECRET + "2"})
        assert status() == "active"
        root("PUT", url, {"status": "disabled"})
        assert status() == "disabled"
        root("PUT", url, {"status": "active", "expire_at": "2020-01-01T00:00:00Z"})
        assert status() == "expired"
        root("PUT", url, {"expire_at": None, "daily_quota": 0})
        assert status() == "exhausted"

    def test_a_key_stays_with_its_origin(self, root):
        """S1: whoever changes an address later does not get the key."""
        key = made(root, KEYS, provider="openai", name="main", key=SECRET)
        base = "https://api.openai.com/v1"
        body = {"name": "o", "type": "openai", "base_url": base, "api_key_ids": [key["id"]]}
        one = made(root, EXECUTORS, **body)
        assert one["api_key_ids"] == [key["id"]]
        assert root.get(f"{KEYS}/{key['id']}").json()["base_url"] == base
        url = f"{EXECUTORS}/{one['id']}"
        for elsewhere in ("https://evil.example/v1", "http://api.openai.com/v1"):
            answer = root("PUT", url, {"base_url": elsewhere})
            assert refused(answer) == (422, "VALIDATION_FAILED")
            assert "bound to another address" in str(answer.json()["detail"])
        moved = root("PUT", f"{KEYS}/{key['id']}", {"base_url": "https://evil.example"})
        assert refused(moved) == (422, "VALIDATION_FAILED")
        assert root("PUT", url, {"base_url": base + "/"}).status_code == 200
        foreign = made(root, KEYS, provider="gemini", name="g", key=SECRET)
        answer = root("PUT", url, {"api_key_ids": [foreign["id"]]})
        assert refused(answer) == (422, "VALIDATION_FAILED")


class TestWorkflows:
    def test_a_life(self, root):
        one = made(root, WORKFLOWS, name="kite", type="comfyui", definition=GRAPH)
        assert (one["version"], one["status"], one["definition"]) == ("v1", "inactive", GRAPH)
        url = f"{WORKFLOWS}/{one['id']}"
        changed = root("PUT", url, {"metadata": {"owner": "ops"}, "status": "active"}).json()
        assert root.get(url).json() == changed
        assert (changed["metadata"], changed["status"]) == ({"owner": "ops"}, "active")
        second = made(root, WORKFLOWS, name="kite", version="v2", type="comfyui", definition=GRAPH)
        again = root.post(WORKFLOWS, {"name": "kite", "version": "v2"})
        assert refused(again) == (400, "WORKFLOW_VERSION_EXISTS")
        clash = root("PUT", url, {"version": "v2"})
        assert refused(clash) == (400, "WORKFLOW_VERSION_EXISTS")
        assert [w["id"] for w in root.get(WORKFLOWS).json()] == [one["id"], second["id"]]
        assert root.delete(url).json() == {"status": "deleted"}
        assert refused(root.get(url)) == (404, "WORKFLOW_NOT_FOUND")

    def test_formats(self, root):
        for kind in ("comfyui", "generic"):
            answer = root.post(WORKFLOWS, {"name": "ui", "type": kind, "definition": UI})
            assert refused(answer) == (422, "WORKFLOW_FORMAT_UI")
            assert "Save (API Format)" in answer.json()["detail"]
        bad = {"name": "bad", "type": "comfyui", "definition": {"1": {"inputs": {}}}}
        [item] = root.post(WORKFLOWS, bad).json()["detail"]
        assert item["loc"] == ["body", "definition", 1, "class_type"]
        made(root, WORKFLOWS, name="any", definition={"whatever": 1})
        made(root, WORKFLOWS, name="c", type="coze", definition={"workflow_id": "75"})


class TestBindings:
    def test_a_life(self, root):
        flow = workflow(root)
        one = made(root, BINDINGS, action="portrait", workflow_id=flow["id"])
        assert {k: v for k, v in one.items() if k not in {"id", "created_at", "updated_at"}} == {
            "action": "portrait",
            "workflow_id": flow["id"],
            "executor_id": None,
            "model": None,
            "ability_id": None,
            "priority": 0,
            "weight": 1,
            "enabled": True,
            "metadata": {},
        }
        url = f"{BINDINGS}/{one['id']}"
        bound = routing.choose("portrait")
        assert bound is not None
        assert bound.workflow_id is not None
        assert root("PUT", url, {"enabled": False}).json()["enabled"] is False
        assert routing.choose("portrait") is None
        assert root.get(BINDINGS).json() == [root.get(url).json()]
        assert root.delete(url).json() == {"status": "deleted"}
        assert refused(root.get(url)) == (404, "BINDING_NOT_FOUND")

    def test_exactly_one_target_that_exists(self, root):
        flow, box = workflow(root), sandbox()
        wrong = [
            {},
            {"workflow_id": flow["id"], "model": "sandbox-image"},
            {"workflow_id": str(new_id())},
            {"model": "sandbox-image", "executor_id": str(new_id())},
            {"workflow_id": flow["id"], "executor_id": str(box.id)},  # not a ComfyUI
        ]
        for body in wrong:
            answer = root.post(BINDINGS, {"action": "a", **body})
            assert refused(answer) == (400, "INVALID_WORKFLOW_OR_EXECUTOR"), body
        assert not WorkflowBinding.objects.exists()
        made(root, BINDINGS, action="a", model="sandbox-image", executorId=str(box.id))

    def test_priority_first_then_weight(self, root):
        for name, priority, weight in (("low", 0, 9), ("a", 5, 3), ("b", 5, 1)):
            made(root, BINDINGS, action="x", model=name, priority=priority, weight=weight)
        off = made(root, BINDINGS, action="x", model="off", priority=9)
        root("PUT", f"{BINDINGS}/{off['id']}", {"enabled": False})
        asleep = workflow(root, status="inactive")
        made(root, BINDINGS, action="x", workflow_id=asleep["id"], priority=9)
        turns = [routing.choose("x") for _ in range(40)]
        chosen = [turn.model for turn in turns if turn]
        assert (chosen.count("a"), chosen.count("b")) == (30, 10)
        assert "a" * 4 not in "".join(chosen)


class TestBlacklist:
    def test_a_blocked_user_cannot_upload(self, root):
        carol = caller("carol", "media")
        assert root.post(BLACKLIST, {"userId": "carol", "reason": "spam"}).status_code == 200
        assert root.get(BLACKLIST).json() == [{"user_id": "carol", "reason": "spam"}]
        ask = {"filename": "a.png", "content_type": "image/png", "size": 10}
        assert carol.post("/api/v1/media/uploads", ask).status_code == 403
        assert root.delete(f"{BLACKLIST}/carol").json() == {"status": "deleted"}
        assert refused(root.delete(f"{BLACKLIST}/carol")) == (404, "NOT_FOUND")
        assert carol.post("/api/v1/media/uploads", ask).status_code != 403
        assert root.get(BLACKLIST).json() == []


def test_an_idempotency_key_makes_one(root):
    body = {"name": "e", "type": "sandbox"}
    first = root.post(EXECUTORS, body, Idempotency_Key="k")
    second = root.post(EXECUTORS, body, Idempotency_Key="k")
    assert first.json() == second.json()
    assert Executor.objects.count() == 1


def test_the_chore_removes_what_has_nothing_left(root):
    one = sandbox()
    Executor.objects.filter(pk=one.pk).update(removing=True)
    sandbox("stays")
    assert departures.sweep() == 1
    assert [e.name for e in Executor.objects.all()] == ["stays"]


def test_the_dashboard_counts_tasks(root):
    alice = caller("alice")
    for _ in range(2):
        body = {"model": "gemini-2.5-flash", "input": {"prompt": "hi"}}
        made = alice.post("/api/v1/tasks", body)
        assert made.status_code == 201, made.content
    alice.post(f"/api/v1/tasks/{made.json()['id']}/cancel")
    assert root.get("/api/admin/dashboard/metrics").json() == {
        "total": 2,
        "status": {"queued": 1, "canceled": 1},
        "source": {"native": 2},
        "executor": {},
    }
    assert alice.get("/api/admin/dashboard/metrics").json()["code"] == "ADMIN_ONLY"
