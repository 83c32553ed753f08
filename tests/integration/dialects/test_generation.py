"""The generation dialect: `/task` and its neighbours."""

import base64
from contextlib import closing

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from admin_integrations import fleet
from admin_integrations.models import Executor
from genpulse.config import config
from genpulse.dialects import generation_words
from media.models import Asset
from tasks.models import Priority, Status, Task, TaskContent
from tests.integration.cast import caller
from tests.integration.stack import all_ended, sandbox
from wallet import services as wallet

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
DATA_URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1}, "_meta": {"title": "sampler"}},
    "5": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1},
        "_meta": {"title": "INPUT_size"},
    },
    "6": {
        "class_type": "CLIPTextEncode",
        "inputs": {"text": "x"},
        "_meta": {"title": "INPUT_prompt"},
    },
}
IMAGE = {"task_type": "text-to-image", "provider": "sandbox", "params": {"prompt": "a red kite"}}


@pytest.fixture
def alice(db):
    sandbox()
    return rich("alice")


def rich(name):
    who = caller(name)
    wallet.deposit(who.user.account_id, 100_000_000, reason="test")
    return who


def server(name="gpu-1", url="http://10.1.1.1:8188", **options):
    made = Executor.objects.create(name=name, type="comfyui", base_url=url, **options)
    fleet.forget()
    return made


def submit(who, body, expect=200):
    answer = who.post("/task", body)
    assert answer.status_code == expect, answer.content
    return answer.json()


def content(answer):
    return TaskContent.objects.select_related("task").get(pk=answer["task_id"])


def test_submit_read_and_cancel(alice):
    answer = alice.post("/task", {**IMAGE, "priority": "high", "surprise": 1})
    assert answer.json() == {
        "task_id": answer["X-GenPulse-Task-Id"],
        "status": "pending",
        "message": "Task received and queued",
    }
    path = f"/task/{answer.json()['task_id']}"
    document = alice.get(path).json()
    assert document.pop("created_at") == document.pop("updated_at")
    assert document == {
        "task_id": answer.json()["task_id"],
        "status": "pending",
        "progress": 0,
        "result": None,
        "task_type": "text-to-image",
        "provider": "sandbox",
        "priority": "high",
        "error": None,
    }
    canceled = alice.post(f"{path}/cancel").json()
    assert [canceled["status"], canceled["error"]] == ["failed", "canceled"]
    assert canceled["result"] == {"error": "canceled"}
    assert Task.objects.get().source == "generation"


@pytest.mark.parametrize("id_", ["abc", "01936f2c-7a10-7c3e-9d54-3f1f2a6b8c01"])
def test_unknown_foreign_and_malformed_ids(alice, id_):
    assert alice.get(f"/task/{id_}").json()["detail"] == "Task not found"
    theirs = submit(rich("bob"), IMAGE)["task_id"]
    for answer in (alice.get(f"/task/{theirs}"), alice.post(f"/task/{theirs}/cancel")):
        assert [answer.status_code, answer.json()["detail"]] == [404, "Task not found"]


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"params": {}}, ["body", "task_type"]),
        ({"task_type": "text-to-image"}, ["body", "params"]),
        ({"task_type": "sculpture", "params": {}}, ["body", "task_type"]),
        ({**IMAGE, "params": {"prompt": 5}}, ["body", "params", "prompt"]),
        ({**IMAGE, "params": {"prompt": "x", "size": "big"}}, ["body", "params", "size"]),
        ({**IMAGE, "params": {"prompt": "x", "images": "one"}}, ["body", "params", "images"]),
        ({**IMAGE, "priority": "urgent"}, ["body", "priority"]),
    ],
)
def test_a_bad_field_is_named_in_the_doors_own_words(alice, body, loc):
    answer = submit(alice, body, expect=422)
    assert answer["code"] == "validation_failed"
    assert loc in [item["loc"] for item in answer["detail"]], answer
    assert not Task.objects.exists()


def test_an_unknown_task_type_lists_the_handlers(alice):
    answer = submit(alice, {"task_type": "sculpture", "params": {}}, expect=422)
    assert "text-to-image" in answer["detail"][0]["msg"]


def test_callbacks_are_checked_and_kept(alice):
    refused = submit(alice, {**IMAGE, "callback_url": "http://10.0.0.1/x"}, expect=422)
    assert refused["code"] == "url_not_allowed"
    made = submit(alice, {**IMAGE, "callback_url": "http://127.0.0.1:9/x"})
    kept = content(made).options["webhook"]
    assert [kept["url"], kept["style"]] == ["http://127.0.0.1:9/x", "generation"]


def test_the_same_key_makes_one_task(alice):
    first, again = (alice.post("/task", IMAGE, Idempotency_Key="k1") for _ in range(2))
    assert first.json() == again.json()
    assert again["Idempotency-Replayed"] == "true"
    other = alice.post("/task", {**IMAGE, "priority": "low"}, Idempotency_Key="k1")
    assert [other.status_code, other.json()["code"]] == [422, "idempotency_key_reused"]
    assert Task.objects.count() == 1


def test_names_are_translated(alice):
    made = submit(
        alice,
        {
            "task_type": "image-to-image",
            "params": {
                "provider": "sandbox",
                "prompt": "kite",
                "image": DATA_URI,
                "size": "64*32",
                "sandbox": {"latency": 0},
            },
        },
    )
    given = content(made).input
    assert given["size"] == "64x32"
    assert given["sandbox"] == {"latency": 0}
    assert given["images"] == [f"asset:{Asset.objects.get().id}"]
    assert "provider" not in given


def test_aliases_are_shown_as_they_were_submitted(alice):
    made = submit(alice, {**IMAGE, "task_type": "image"})
    assert alice.get(f"/task/{made['task_id']}").json()["task_type"] == "image"
    assert Task.objects.get().task_type == "text-to-image"


def test_the_provider_nobody_named(alice, monkeypatch):
    plain = {"task_type": "text-to-image", "params": {"prompt": "kite"}}
    refused = submit(alice, plain, expect=422)
    assert refused["code"] == "unknown_provider"
    assert "sandbox" in refused["detail"]
    monkeypatch.setattr(config, "default_image_provider", "sandbox")
    submit(alice, plain)
    monkeypatch.setattr(config, "default_image_provider", "")
    Executor.objects.create(name="ark", type="volcengine", base_url="https://ark.example/api/v3")
    fleet.forget()
    made = submit(alice, plain)
    assert content(made).task.provider == "volcengine"
    by_model = submit(alice, {**plain, "params": {"prompt": "kite", "model": "sandbox-image"}})
    assert content(by_model).task.provider == "sandbox"


def test_workflows_go_to_the_named_server(alice):
    server()
    params = {"server_address": "10.1.1.1:8188", "workflow": GRAPH}
    made = submit(alice, {"task_type": "comfyui", "params": params})
    task = content(made).task
    assert [task.provider, task.task_type] == ["comfyui", "comfy-workflow"]
    assert task.route.filter["only"] == ["gpu-1"]
    assert alice.get(f"/task/{task.id}").json()["task_type"] == "comfyui"


def test_a_server_that_is_allowed_is_made_and_others_are_refused(alice, monkeypatch):
    monkeypatch.setattr(config, "comfy_allowed_hosts", ["127.0.0.1:8188"])
    params = {"server_address": "evil:1", "workflow": GRAPH}
    body = {"task_type": "comfyui", "params": params}
    refused = submit(alice, body, expect=422)
    assert refused["code"] == "url_not_allowed"
    assert not Executor.objects.filter(type="comfyui").exists()
    params["server_address"] = "http://127.0.0.1:8188/"
    submit(alice, body)
    submit(alice, body)
    assert Executor.objects.get(type="comfyui").base_url == "http://127.0.0.1:8188"
    Executor.objects.filter(type="comfyui").update(status="inactive")
    assert submit(alice, body, expect=422)["code"] == "url_not_allowed"
    Executor.objects.filter(type="comfyui").update(status="active", base_url="http://10.1.1.1:8188")
    assert "has another address" in submit(alice, body, expect=422)["detail"]


def test_workflows_that_cannot_work_are_refused(alice):
    server()
    ui = submit(
        alice,
        {"task_type": "comfyui", "params": {"workflow": {"nodes": [], "links": []}}},
        expect=422,
    )
    assert ui["code"] == "workflow_format_ui"
    assert "Save (API Format)" in ui["detail"]
    params = {"workflow": GRAPH, "inputs": {"prompt": "kite", "mood": "x"}}
    unknown = submit(alice, {"task_type": "comfyui", "params": params}, expect=422)
    assert unknown["detail"][0]["loc"] == ["body", "params", "inputs", "mood"]
    params["inputs"] = {"prompt": "kite", "size_width": 128, "size_height": 32}
    submit(alice, {"task_type": "comfyui", "params": params})


def test_lists_are_the_callers_newest_first(alice):
    made = [submit(alice, IMAGE)["task_id"] for _ in range(3)]
    submit(rich("bob"), IMAGE)
    alice.post(f"/task/{made[0]}/cancel")
    page = alice.get("/task?limit=2").json()
    assert [item["task_id"] for item in page.pop("tasks")] == made[:0:-1]
    assert page == {"total": 3, "limit": 2, "offset": 0}
    failed = alice.get("/task?status=failed").json()
    assert [item["task_id"] for item in failed["tasks"]] == made[:1]
    assert alice.get("/task?status=odd").status_code == 422
    assert alice.get("/task?limit=101").status_code == 422


def test_handlers_name_who_can_do_what(alice):
    handlers = {h["task_type"]: h["providers"] for h in alice.get("/handlers").json()["handlers"]}
    assert {"sandbox", "comfyui"} <= set(handlers["text-to-image"])
    assert handlers["comfy-workflow"] == ["comfyui"]


def test_uploads_are_served_from_the_signed_url(alice):
    def upload(name="../../evil.png", **headers):
        file = SimpleUploadedFile(name, PNG, "image/png")
        return alice.client.post(
            "/storage/upload", {"file": file}, headers={**alice.headers, **headers}
        )

    answer = upload(**{"Idempotency-Key": "u1"})
    assert answer.status_code == 200, answer.content
    stored = answer.json()
    assert stored["content_type"] == "image/png"
    assert stored["key"] == f"uploads/{Asset.objects.get().id}.png"
    again = upload(**{"Idempotency-Key": "u1"})
    assert again.status_code == 200, again.content
    assert again.json()["key"] == stored["key"]
    assert Asset.objects.count() == 1
    nothing = alice.client.post("/storage/upload", {}, headers=alice.headers)
    assert [nothing.status_code, nothing.json()["code"]] == [422, "validation_failed"]
    with closing(alice.client.get(stored["url"].partition("8000")[2])) as served:
        assert [served.status_code, served["Content-Length"]] == [
            200,
            str(len(PNG)),
        ]  # closing it ends the connection of the test


def test_every_status_and_priority_has_its_word():
    assert set(generation_words.WORDS) == set(Status)
    assert len(generation_words.PRIORITIES) == len(Priority)


def test_a_story(stack):
    """All kinds of results, and a failure, as their documents show them."""
    sandbox()
    alice = rich("alice")
    quick = {"sandbox": {"latency": 0}}
    asked: dict[str, dict[str, object]] = {
        "text-to-image": {"prompt": "kite"},
        "image-to-image": {"prompt": "kite", "image_url": DATA_URI},
        "text-to-video": {"prompt": "kite", "duration": 1, "size": "32x32"},
        "image-to-video": {"images": [DATA_URI], "duration": 1, "size": "32x32"},
        "text-to-audio": {"prompt": "hello"},
        "chat": {"prompt": "hello"},
    }
    made = {
        kind: submit(
            alice, {"task_type": kind, "provider": "sandbox", "params": {**params, **quick}}
        )["task_id"]
        for kind, params in asked.items()
    }
    bad = {"prompt": "x", "sandbox": {"latency": 0, "fail": "content_refused"}}
    refused = submit(alice, {**IMAGE, "params": bad})["task_id"]
    all_ended([*made.values(), refused])

    done = {kind: alice.get(f"/task/{id_}").json() for kind, id_ in made.items()}
    assert {document["status"] for document in done.values()} == {"completed"}
    assert {document["progress"] for document in done.values()} == {100}
    for kind, member in (
        ("text-to-image", "image"),
        ("text-to-video", "video"),
        ("text-to-audio", "audio"),
    ):
        result = done[kind]["result"]
        assert result[f"{member}_url"] == result[f"{member}s"][0]
        assert result["provider"] == "sandbox"
        assert result["assets"][0]["kind"] == member
    assert done["chat"]["result"]["text"] == "[sandbox] sandbox-text: hello"
    assert done["chat"]["result"]["image_url"] is None
    failed = alice.get(f"/task/{refused}").json()
    assert failed["status"] == "failed"
    assert failed["error"] == failed["result"]["error"] != ""
