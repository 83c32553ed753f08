"""What the OpenAI dialect refuses, and how it says so."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from admin_integrations import fleet, states
from admin_integrations.models import Executor
from genpulse.config import config
from genpulse.dialects.openai import failures
from media.models import Asset
from tasks import waiting
from tasks.models import Status, Task
from tests.integration.cast import caller, nobody
from tests.integration.stack import forget_everything, sandbox
from wallet import services as wallet

V1 = "/openai/v1"
CHAT = f"{V1}/chat/completions"
HELLO = [{"role": "user", "content": "hello"}]
ASK = {"model": "sandbox-text", "messages": HELLO}


@pytest.fixture
def alice(db):
    sandbox()
    who = caller("alice")
    wallet.deposit(who.user.account_id, 100_000_000, reason="test")
    return who


def error(answer, status, code, param=None, kind="invalid_request_error"):
    assert answer.status_code == status, answer.content
    said = answer.json()["error"]
    assert set(said) == {"message", "type", "param", "code"}
    assert said["message"]
    assert [said["type"], said["code"], said["param"]] == [kind, code, param]
    assert answer["X-Request-ID"]


@pytest.mark.parametrize("path", [CHAT, "/v1/chat/completions"])
@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": None}, "invalid_value", "messages"),
        ({"messages": "hello"}, "invalid_value", "messages"),
        ({"messages": ["hello"]}, "invalid_value", "messages.0"),
        ({"messages": [{"role": "user", "content": 5}]}, "invalid_value", "messages.0"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "invalid_value", "messages.0"),
        ({"messages": [{"role": "king", "content": "x"}]}, "unsupported_value", "messages.0"),
        (
            {"messages": [*HELLO, {"role": "user", "content": "x" * 100_001}]},
            "invalid_value",
            "messages.1",
        ),
        ({"model": ["sandbox-text"] * 50}, "invalid_value", "model"),
        ({"model": ""}, "invalid_value", "model"),
        ({"model": "sandbox-image"}, "unsupported_value", "model"),
        ({"n": 2}, "unsupported_value", "n"),
        ({"n": "many"}, "invalid_value", "n"),
        ({"temperature": "hot"}, "invalid_value", "temperature"),
        ({"max_completion_tokens": 0}, "invalid_value", "max_tokens"),
        ({"stream": "maybe"}, "unsupported_value", "stream"),
        ({"priority": "urgent"}, "unsupported_value", "priority"),
        ({"metadata": "x"}, "invalid_value", None),
        ({"metadata": {"x": "y" * 9000}}, "invalid_value", "metadata"),
        ({"conversation_id": ""}, "invalid_value", "conversation_id"),
        ({"sandbox": {"latency": -1}}, "invalid_value", "sandbox.latency"),
        ({"tools": {}}, "invalid_value", "tools"),
    ],
)
def test_a_bad_field_is_named(alice, path, fields, code, param):
    answer = alice.post(path, {**ASK, **fields})
    error(answer, 400, code, param)
    assert not Task.objects.exists()


@pytest.mark.parametrize(
    ("path", "body", "code", "param"),
    [
        ("chat/completions", {"model": "sandbox-text"}, "missing_required_parameter", "messages"),
        ("chat/completions", {"messages": HELLO}, "missing_required_parameter", "model"),
        (
            "images/generations",
            {"model": "sandbox-image"},
            "missing_required_parameter",
            "prompt",
        ),
        ("images/generations", {"prompt": "x", "n": 11}, "invalid_value", "n"),
        (
            "images/generations",
            {"model": "sandbox-image", "prompt": "x", "size": "huge"},
            "invalid_value",
            "size",
        ),
        (
            "images/generations",
            {"model": "sandbox-image", "prompt": "x", "output_format": "webp"},
            "unsupported_value",
            "output_format",
        ),
        (
            "images/generations",
            {"model": "sandbox-image", "prompt": "x", "background": "transparent"},
            "unsupported_value",
            "background",
        ),
        (
            "audio/speech",
            {"model": "sandbox-audio", "input": "x" * 4097},
            "invalid_value",
            "input",
        ),
        (
            "audio/speech",
            {"model": "sandbox-audio", "input": "x", "response_format": "mp3"},
            "unsupported_value",
            "response_format",
        ),
        (
            "audio/speech",
            {"model": "sandbox-audio", "input": "x", "stream_format": "sse"},
            "unsupported_value",
            "stream_format",
        ),
        (
            "audio/speech",
            {"model": "sandbox-audio", "input": "x", "speed": 5},
            "invalid_value",
            "speed",
        ),
        (
            "embeddings",
            {"model": "sandbox-embedding", "input": [1, 2]},
            "unsupported_value",
            "input",
        ),
        ("embeddings", {"model": "sandbox-embedding", "input": []}, "invalid_value", "input"),
        (
            "embeddings",
            {"model": "sandbox-embedding", "input": ["x"] * 257},
            "invalid_value",
            "input",
        ),
        (
            "embeddings",
            {"model": "sandbox-embedding", "input": "x", "dimensions": 2000},
            "invalid_value",
            "dimensions",
        ),
        ("videos", {"prompt": "x"}, "missing_required_parameter", "model"),
        (
            "videos",
            {"model": "sandbox-video", "prompt": "x", "seconds": "soon"},
            "invalid_value",
            "seconds",
        ),
        (
            "videos",
            {"model": "sandbox-video", "prompt": "x", "seconds": 61},
            "invalid_value",
            "seconds",
        ),
        (
            "videos",
            {"model": "sandbox-video", "prompt": "x", "input_reference": {"file_id": "file-x"}},
            "invalid_value",
            "input_reference.0",
        ),
    ],
)
def test_every_door_names_its_own_fields(alice, path, body, code, param):
    error(alice.post(f"{V1}/{path}", body), 400, code, param)
    assert not Task.objects.exists()


def test_bodies_that_cannot_be_read(alice, monkeypatch):
    error(alice.post(CHAT, b"{"), 400, "invalid_value")
    error(alice.post(CHAT, b"[]"), 400, "invalid_value")
    error(alice.post(CHAT, b'{"model":"\xff"}'), 400, "invalid_value")
    error(alice.post(CHAT, {**ASK, "user": "\0"}), 400, "invalid_value", "user")
    text = alice.client.post(CHAT, "x", content_type="text/plain", headers=alice.headers)
    error(text, 415, "unsupported_media_type")
    form = alice.post(f"{V1}/images/edits", {"prompt": "x"})
    error(form, 415, "unsupported_media_type")
    error(alice.get(CHAT), 405, "method_not_allowed")
    monkeypatch.setattr(config, "max_body_bytes", 100)
    error(alice.post(CHAT, {**ASK, "user": "x" * 100}), 413, "body_too_large")


def upload(who, path, **fields):
    return who.client.post(f"{V1}/{path}", fields, headers=who.headers)


def test_files_that_are_missing_too_many_or_no_images(alice, monkeypatch):
    fields = {"model": "sandbox-image", "prompt": "x"}
    error(upload(alice, "images/edits", **fields), 400, "missing_required_parameter", "image")
    words = [SimpleUploadedFile(f"{n}.png", b"words") for n in range(17)]
    error(upload(alice, "images/edits", **fields, image=words), 400, "invalid_value", "image")
    one = upload(alice, "images/edits", **fields, image=words[0])
    error(one, 400, "invalid_value", "image.0")
    sound = {"model": "sandbox-transcribe"}
    missing = upload(alice, "audio/transcriptions", **sound)
    error(missing, 400, "missing_required_parameter", "file")
    streamed = upload(alice, "audio/transcriptions", **sound, stream="true", file=words[1])
    error(streamed, 400, "unsupported_value", "stream")
    error(upload(alice, "files", file=words[2]), 400, "missing_required_parameter", "purpose")
    error(upload(alice, "files", purpose="x"), 400, "missing_required_parameter", "file")
    monkeypatch.setattr(config, "max_upload_bytes", 3)
    large = SimpleUploadedFile("large.txt", b"words")
    error(upload(alice, "files", file=large, purpose="x"), 413, "body_too_large")
    assert not Asset.objects.filter(deleted_at=None).exists()
    assert not Task.objects.exists()


def test_credentials_and_rights(alice):
    for path in (CHAT, "/v1/chat/completions"):
        error(nobody().post(path, ASK), 401, "invalid_api_key")
        wrong = alice.client.post(
            path, json.dumps(ASK), content_type="application/json", headers={"X-API-Key": "x"}
        )
        error(wrong, 401, "invalid_api_key")
    reader = caller("bob", "tasks:read")
    error(reader.post(CHAT, ASK), 403, "permission_denied")
    narrow = caller("carol", model_patterns=["gpt*"])
    error(narrow.post(CHAT, ASK), 403, "permission_denied")
    service, header = caller("shop", "act_as", "tasks"), "X-GenPulse-User"
    error(service.post(CHAT, ASK, X_GenPulse_User="a/../b"), 400, "invalid_value", header)
    named = service.get(f"{V1}/models", X_GenPulse_User="a/../b")
    error(named, 400, "invalid_value", header)  # also where nobody asks for whom it is


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/responses", "/v1/chat", "/v2/models"])
def test_unknown_paths(alice, path):
    error(alice.get(f"/openai{path}"), 404, "unknown_url")


def test_unknown_models_and_objects(alice):
    for path in (CHAT, "/v1/chat/completions"):
        error(alice.post(path, {**ASK, "model": "nope"}), 404, "model_not_found", "model")
    error(alice.get(f"{V1}/models/nope/of/it"), 404, "model_not_found")
    assert alice.get(f"{V1}/models/gpt-5-any").json()["owned_by"] == "openai"
    for path in ("videos/video_x", f"videos/video_{'0' * 32}", f"files/file-{'0' * 32}", "files/x"):
        error(alice.get(f"{V1}/{path}"), 404, "not_found")
    error(alice.get(f"{V1}/videos?limit=0"), 400, "invalid_value", "limit")
    error(alice.get(f"{V1}/videos?after=x"), 400, "invalid_value", "after")


def test_money_and_limits_stop_the_retries_of_clients(alice, monkeypatch):
    poor = caller("bob")
    broke = poor.post(CHAT, ASK)
    error(broke, 429, "insufficient_quota", kind="insufficient_quota")
    assert broke["X-Should-Retry"] == "false"
    thrifty = caller("alice", budget_amount=1, budget_window="day")
    spent = thrifty.post(CHAT, ASK)
    error(spent, 429, "insufficient_quota", kind="insufficient_quota")
    assert spent["X-Should-Retry"] == "false"
    monkeypatch.setattr(config, "rate_limit_write", 1)
    fast = caller("carol")
    assert fast.post(CHAT, {}).status_code == 400
    limited = fast.post(CHAT, {})
    error(limited, 429, "rate_limit_exceeded", kind="requests")
    assert int(limited["Retry-After"]) >= 1
    assert "X-Should-Retry" not in limited


def test_nobody_there_to_do_it(alice, monkeypatch):
    states.set_state("sandbox", states.DRAINING)
    draining = alice.post(CHAT, ASK)
    error(draining, 503, "unavailable", kind="server_error")
    assert draining["Retry-After"]
    states.set_state("sandbox", states.ACTIVE)
    Executor.objects.update(status="inactive")
    fleet.forget()
    absent = alice.post(CHAT, ASK)
    error(absent, 503, "no_executor", kind="server_error")
    assert absent["X-Should-Retry"] == "false"
    assert not Task.objects.exists()
    assert wallet.balance(alice.user.account_id).held == 0


def test_waiting_ends(alice, monkeypatch):
    """Without a worker nothing is ever finished: the client is told where to read on."""

    async def over(*_):
        return False

    monkeypatch.setattr(waiting, "task_end", over)
    late = alice.post(CHAT, ASK, Idempotency_Key="once")
    error(late, 504, "timeout", kind="server_error")
    assert late["X-Should-Retry"] == "false"
    task = Task.objects.get()
    assert late["X-GenPulse-Task-Id"] == str(task.id)
    again = alice.post(CHAT, ASK, Idempotency_Key="once")
    assert [again.status_code, again["Idempotency-Replayed"]] == [504, "true"]
    other = alice.post(CHAT, {**ASK, "user": "x"}, Idempotency_Key="once")
    error(other, 422, "idempotency_key_reused")
    assert Task.objects.count() == 1


def test_clients_that_do_not_want_to_wait(alice):
    later = alice.post(CHAT, {**ASK, "user": "u-1"}, Prefer="respond-async")
    assert later.status_code == 202
    task = later.json()
    assert later["Location"] == f"/api/v1/tasks/{task['id']}"
    assert later["X-GenPulse-Task-Id"] == task["id"]
    assert [task["source"], task["metadata"]] == ["openai", {"user": "u-1"}]
    speech = {"model": "sandbox-audio", "input": "hello"}
    assert alice.post(f"{V1}/audio/speech", speech, Prefer="respond-async").status_code == 202


def test_fields_of_other_vendors(alice):
    """What a model with a closed list of inputs does not know is left out, and an open one gets it."""
    extras = {"frequency_penalty": 1, "logit_bias": {}, "guidance": None}
    alice.post(CHAT, {**ASK, **extras}, Prefer="respond-async")
    given = {**ASK, **extras, "model": "gpt-5-mini", "max_completion_tokens": 7}
    Executor.objects.create(name="openai-1", type="openai", base_url="http://127.0.0.1:9/v1")
    forget_everything()
    made = alice.post(CHAT, given, Prefer="respond-async").json()
    closed = Task.objects.exclude(pk=made["id"]).get()
    assert alice.get(f"/api/v1/tasks/{closed.id}").json()["input"] == {"messages": HELLO}
    assert made["input"] == {
        "messages": HELLO,
        "max_tokens": 7,
        "frequency_penalty": 1,
        "logit_bias": {},
    }


@pytest.mark.parametrize(
    ("status", "error_", "expected"),
    [
        ("failed", {"kind": "bad_input", "code": "bad_input"}, (400, "invalid_value")),
        ("failed", {"kind": "content_refused"}, (400, "content_policy_violation")),
        (
            "failed",
            {"kind": "transient", "code": "attempts_exhausted"},
            (502, "attempts_exhausted"),
        ),
        ("failed", {"kind": "lost", "code": "result_lost"}, (502, "result_lost")),
        ("canceled", {"kind": "canceled"}, (400, "canceled")),
        ("expired", {"kind": "expired"}, (504, "expired")),
    ],
)
def test_tasks_that_ended_without_a_result(status, error_, expected):
    said = failures.of_end(Status(status), error_)
    assert (said.status, said.code) == expected
    assert (said.headers == failures.STOP) == (said.status >= 500)
    drawn = failures.of_end(Status.FAILED, {"kind": "content_refused"}, drawn=True)
    assert drawn.type == "image_generation_user_error"
