"""Every door says no in its own envelope, for every kind of reason, and nothing is left behind."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from genpulse.auth import services
from genpulse.config import config
from tasks.models import Batch, Task
from tests.integration.cast import caller, nobody
from tests.integration.stack import sandbox
from wallet import services as wallet
from wallet.models import Hold

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Door:
    """`body` is accepted by it; `user`: how its body names whom it acts for."""

    path: str
    body: dict[str, Any]
    envelope: str
    unknown: str
    user: str = ""
    scopes: tuple[str, ...] = ("tasks",)
    needed: dict[str, str] = field(default_factory=dict)  # required field -> its name in refusals


PARAMS = {"prompt": "kite", "model": "sandbox-image"}
DOORS = {
    "generation": Door(
        "/task",
        {"task_type": "text-to-image", "provider": "sandbox", "params": PARAMS},
        "detail",
        "/task/x/unknown",
        needed={"task_type": "task_type", "params": "params"},
    ),
    "chat": Door(
        "/v1/chat/completions",
        {"prompt": "kite", "model": "sandbox-text"},
        "detail",
        "/v1/unknown",
        needed={"prompt": "prompt"},
    ),
    "chat images": Door(
        "/v1/images/generations",
        {"prompt": "kite", "model": "sandbox-image"},
        "detail",
        "/v1/images/unknown",
        needed={"prompt": "prompt"},
    ),
    "ai": Door(
        "/ai/image/task",
        {"prompt": "kite", "provider": "sandbox", "user_id": "alice"},
        "ai",
        "/ai/unknown",
        user="user_id",
        needed={"prompt": "prompt", "user_id": "user_id"},
    ),
    "ai below /api": Door(
        "/api/v1/ai/text/task",
        {"prompt": "kite", "provider": "sandbox", "user_id": "alice"},
        "ai",
        "/api/v1/ai/unknown",
        user="user_id",
        needed={"prompt": "prompt", "user_id": "user_id"},
    ),
    "platform": Door(
        "/api/tasks/v1/submit",
        {"taskId": "t1", "action": "draw", "userId": "alice", "points": 1, "workflowParams": {}},
        "PLATFORM",
        "/api/tasks/v1/x/unknown",
        user="userId",
        needed={"taskId": "taskId", "action": "action", "points": "points"},
    ),
    "platform wallet": Door(
        "/api/wallet/v1/freeze",
        {"taskId": "t1", "action": "draw", "userId": "alice", "points": 1},
        "PLATFORM",
        "/api/wallet/v1/unknown",
        user="userId",
        scopes=("wallet",),
        needed={"taskId": "taskId", "points": "points"},
    ),
}


def doors(among):
    """A table with a row for each door that `among` holds true of."""
    chosen = {name: door for name, door in DOORS.items() if among(door)}
    return pytest.mark.parametrize("door", chosen.values(), ids=chosen)


every_door = doors(lambda door: True)


@pytest.fixture(autouse=True)
def executor(clean_redis):
    sandbox()


@pytest.fixture
def alice():
    who = caller("alice", "tasks", "wallet")
    wallet.deposit(who.user.account_id, 100_000_000, reason="test")
    return who


def refusal(door: Door, answer: Any, status: int, code: str) -> Any:
    """Its text; the envelope must be that of the door, and nothing may be stored."""
    assert answer.status_code == status, answer.content
    body = answer.json()
    if door.envelope == "ai":
        assert body.keys() - {"details"} == {"success", "error", "message", "code", "request_id"}
        assert (body["success"], body["code"]) == (False, code)
        said = body["message"]
    else:
        assert body.keys() == {"detail", "code", "request_id"}
        assert body["code"] == (code.upper() if door.envelope == "PLATFORM" else code)
        said = body["detail"]
    assert said
    assert body["request_id"] == answer["X-Request-ID"]
    assert "Traceback" not in answer.content.decode()
    assert not Task.objects.exists()
    assert not Batch.objects.exists()
    assert not Hold.objects.exists()
    return body


@every_door
def test_who_asks(door, alice):
    platform = door.envelope == "PLATFORM"
    missing = "authorization_required" if platform else "authentication_required"
    refusal(door, nobody().post(door.path, door.body), 401, missing)
    forged = {"Authorization": "Bearer gp_live_" + "a" * 57}
    wrong = "invalid_token" if platform else "invalid_credentials"
    refusal(door, nobody().post(door.path, door.body, **forged), 401, wrong)
    refusal(door, caller("alice", "media").post(door.path, door.body), 403, "scope_missing")
    services.change_user(alice.user, {"is_active": False}, {})
    disabled = "user_inactive" if platform else "account_disabled"
    refusal(door, alice.post(door.path, door.body), 403, disabled)


@every_door
def test_in_development_a_named_user_may_be_anybody(door, alice, monkeypatch):
    monkeypatch.setattr(config, "dev_anonymous_user", "alice")
    answer = nobody().post(door.path, door.body)
    assert answer.status_code in {200, 201}, answer.content
    assert Hold.objects.get().account_id == alice.user.account_id


@doors(lambda door: door.user)
def test_whom_it_is_for(door, alice):
    other = {**door.body, door.user: "bob"}
    refusal(door, alice.post(door.path, other), 403, "user_mismatch")
    nameless = {**door.body, door.user: "a/../b"}
    service = caller("service", "act_as", *door.scopes)
    status = 400 if door.envelope == "ai" else 422
    found = refusal(door, service.post(door.path, nameless), status, "validation_failed")
    assert door.user in str(found.get("details") or found["detail"])
    assert services.find_user("bob") is None


@doors(lambda door: not door.user)
def test_a_header_that_names_whom_it_is_for(door, alice):
    service = caller("service", "act_as", *door.scopes)
    found = refusal(
        door,
        service.post(door.path, door.body, X_GenPulse_User="a/../b"),
        422,
        "validation_failed",
    )
    assert "X-GenPulse-User" in str(found["detail"])
    answer = service.post(door.path, door.body, X_GenPulse_User=" ")
    refusal(door, answer, 400, "malformed_header")
    answer = alice.post(door.path, door.body, X_GenPulse_User="bob")
    refusal(door, answer, 403, "user_mismatch")
    assert services.find_user("bob") is None


@every_door
def test_what_is_no_request(door, alice, monkeypatch):
    for body in (b"", b"{", b"[1]", b'"text"', b'{"prompt": "\xff"}', b"[" * 70, b"NaN"):
        answer = alice("POST", door.path, body)
        status = answer.status_code
        if body == b"":  # an object without members
            assert status in {400, 422}, answer.content
        else:
            assert status == 400, (body, answer.content)
            refusal(door, answer, 400, "malformed_body")
    raw = alice.client.generic("POST", door.path, b"<kite/>", "text/xml", headers=alice.headers)
    refusal(door, raw, 415, "unsupported_media_type")
    refusal(door, alice.delete(door.path), 405, "method_not_allowed")
    refusal(door, alice.get(door.unknown), 404, "not_found")
    monkeypatch.setattr(config, "max_body_bytes", 40)
    refusal(door, alice.post(door.path, {**door.body, "more": "x" * 50}), 413, "body_too_large")


@every_door
def test_which_field_is_missing(door, alice):
    for name, shown in door.needed.items():
        body = {key: value for key, value in door.body.items() if key != name}
        asks = alice if name != door.user else caller("service", "act_as", "tasks")
        status = 400 if door.envelope == "ai" else 422
        found = refusal(door, asks.post(door.path, body), status, "validation_failed")
        if door.envelope == "ai":
            assert shown in [item["field"] for item in found["details"]]
        else:
            assert [shown, "missing"] in [[e["loc"][-1], e["type"]] for e in found["detail"]]


@every_door
def test_what_it_costs(door):
    poor = caller("alice", *door.scopes)
    code = "wallet_insufficient" if door.envelope == "PLATFORM" else "insufficient_credits"
    found = refusal(door, poor.post(door.path, door.body), 402, code)
    if door.envelope == "ai":
        assert found["error"] == "积分不足"


@doors(lambda door: "tasks" in door.scopes)  # money is no work
def test_not_now(door, alice, monkeypatch):
    root = caller("root", "admin")
    assert root.post("/api/v1/queues/drain", {}).status_code == 200
    answer = alice.post(door.path, door.body)
    refusal(door, answer, 503, "family_draining")
    assert int(answer["Retry-After"]) >= 1
    assert root.post("/api/v1/queues/resume", {}).status_code == 200
    monkeypatch.setattr(config, "max_waiting_per_user", 1)
    assert alice.post(door.path, {**door.body, "taskId": "first"}).status_code < 300
    made = Task.objects.count()
    over = alice.post(door.path, {**door.body, "taskId": "second"})
    assert (over.status_code, Task.objects.count()) == (429, made)
    assert int(over["Retry-After"]) >= 1


@every_door
def test_one_key_for_two_bodies(door, alice):
    named = {"Idempotency_Key": "order-1"}
    first = alice.post(door.path, door.body, **named)
    assert first.status_code in {200, 201}
    again = alice.post(door.path, door.body, **named)
    assert (again.json(), again["Idempotency-Replayed"]) == (first.json(), "true")
    other = alice.post(door.path, {**door.body, "priority": "low"}, **named)
    assert other.status_code == 422
    assert other.json()["code"].lower() == "idempotency_key_reused"
    if door.envelope == "PLATFORM":  # the caller's own id counts without a key too
        assert alice.post(door.path, {**door.body, "points": 2}).status_code == 409


def test_too_many_models(alice):
    fifty = ",".join(f"sandbox-{number}" for number in range(50))
    answer = alice.post("/v1/chat/completions", {"prompt": "kite", "model": fifty})
    found = refusal(DOORS["chat"], answer, 422, "validation_failed")
    assert found["detail"][0]["loc"] == ["body", "model"]
    unknown = {"prompt": "kite", "model": "sandbox-text,nobody-knows"}
    refusal(DOORS["chat"], alice.post("/v1/chat/completions", unknown), 422, "unknown_model")
