"""The chat dialect and conversations."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from genpulse.config import config
from genpulse.dialects import chat, chat_words
from genpulse.ids import new_id
from media.models import Asset
from tasks.models import Batch, Conversation, Status, Task, TaskContent
from tests.integration import listeners
from tests.integration.cast import caller
from tests.integration.dialects.test_generation import PNG
from tests.integration.stack import all_ended, sandbox
from wallet import services as wallet

CHAT = "/v1/chat/completions"
ASK = {"prompt": "a red kite", "model": "sandbox-text", "sandbox": {"latency": 0}}


@pytest.fixture
def alice(db):
    sandbox()
    return rich("alice")


def rich(name):
    who = caller(name, "tasks", "media", "wallet:read")
    wallet.deposit(who.user.account_id, 100_000_000, reason="test")
    return who


def ask(who, expect=200, path=CHAT, **fields):
    answer = who.post(path, {**ASK, **fields})
    assert answer.status_code == expect, answer.content
    return answer.json()


def history(who, conversation):
    return who.get(f"/v1/conversations/{conversation}/history").json()


def test_one_model(alice):
    answer = alice.post(CHAT, {**ASK, "conversation_id": None})
    made = answer.json()
    assert answer["X-GenPulse-Task-Id"] == made["task_id"] == made["task_ids"][0]
    assert answer["X-GenPulse-Batch-Id"] == made["batch_id"]
    assert made["message"] == "Tasks dispatched successfully"
    assert [made["status"], len(made["conversation_id"])] == ["PENDING", 36]
    task = alice.get(f"/v1/tasks/{made['task_id']}").json()
    expected = {
        "status": "PENDING",
        "status_code": 0,
        "task_type": "TEXT",
        "prompt": "a red kite",
        "model": "sandbox-text",
        "model_name": "sandbox-text",
        "response_text": None,
        "result_url": None,
        "result_urls": [],
        "error_msg": None,
        "cost_time": None,
    }
    assert {name: task[name] for name in expected} == expected
    canceled = alice.post(f"/v1/tasks/{made['task_id']}/cancel").json()
    assert [canceled["status"], canceled["status_code"]] == ["CANCELLED", 2]
    assert canceled["error_msg"] == "canceled"


@pytest.mark.parametrize("prompt", ["", "   ", None, 5, "x" * 100_001])
def test_a_prompt_that_says_nothing(alice, prompt):
    answer = ask(alice, prompt=prompt, expect=422)
    assert answer["detail"][0]["loc"] == ["body", "prompt"]
    assert not Task.objects.exists()
    assert not Conversation.objects.exists()


def test_prompt_and_messages_exclude_each_other(alice):
    both = ask(alice, messages=[{"role": "user", "content": "x"}], expect=422)
    assert both["detail"][0]["type"] == "exclusive"
    neither = alice.post(CHAT, {"model": "sandbox-text"})
    assert neither.status_code == 422
    assert neither.json()["detail"][0] == {
        "loc": ["body", "prompt"],
        "msg": "Field required",
        "type": "missing",
    }


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("gemini-2.5-flash, deepseek-r1:1.5b", ["gemini-2.5-flash", "deepseek-r1:1.5b"]),
        ("sandbox-text,,  ,gemini-x", ["sandbox-text", "gemini-x"]),
        ("sandbox-text,sandbox-text", ["sandbox-text"]),
        ("on, sandbox-text", ["sandbox-text"]),
        ("", ["gemini-2.5-flash"]),
        (None, ["gemini-2.5-flash"]),
    ],
)
def test_a_fan_out_makes_one_task_per_model_in_order(alice, model, names):
    made = ask(alice, model=model)
    documents = [alice.get(f"/v1/tasks/{id_}").json() for id_ in made["task_ids"]]
    assert [one["model"] for one in documents] == names
    batch = alice.get(f"/v1/batches/{made['batch_id']}").json()
    assert [one["model_name"] for one in batch["results"]] == names
    assert [batch["status"], batch["user_prompt"]] == ["PROCESSING", "a red kite"]
    assert batch["conversation_id"] == made["conversation_id"]


def test_families_and_limits_of_a_fan_out(alice):
    many = ask(alice, model=",".join(f"sandbox-{n}" for n in range(50)), expect=422)
    assert many["detail"][0]["loc"] == ["body", "model"]
    unknown = ask(alice, model="sandbox-text, nobody-knows", expect=422)
    assert unknown["code"] == "unknown_model"
    assert not Task.objects.exists()
    ask(alice, model="gemini-x,qwen-max,deepseek-r1")
    assert set(Task.objects.values_list("family", flat=True)) == {"gemini", "qwen", "deepseek"}


def test_gemini_models_may_run_twice(alice):
    made = ask(alice, model="gemini-x,sandbox-text", gemini_concurrency=2)
    batch = alice.get(f"/v1/batches/{made['batch_id']}").json()
    names = [one["model_name"] for one in batch["results"]]
    assert names == ["gemini-x", "gemini-x(#1)", "sandbox-text"]
    assert set(Task.objects.values_list("model", flat=True)) == {"gemini-x", "sandbox-text"}
    assert (
        ask(alice, gemini_concurrency=3, expect=422)["detail"][0]["loc"][1] == "gemini_concurrency"
    )


def test_a_bad_option_is_named(alice):
    assert ask(alice, temperature=-1, expect=422)["detail"][0]["loc"] == ["body", "temperature"]
    bad = ask(alice, callback_url="ftp://x", expect=422)
    assert bad["code"] == "url_not_allowed"


def test_images(alice):
    made = ask(alice, path="/v1/images/generations", model="sandbox-image", n=2, size="64x64")
    task = alice.get(f"/v1/tasks/{made['task_id']}").json()
    assert [task["task_type"], task["conversation_id"]] == ["IMAGE", made["conversation_id"]]
    drawn = ask(alice, mode="image", model="sandbox-image", conversation_id="mine")
    assert alice.get(f"/v1/tasks/{drawn['task_id']}").json()["task_type"] == "IMAGE"
    alice.post(f"/v1/tasks/{drawn['task_id']}/cancel")
    again = alice.post(f"/api/v1/tasks/{drawn['task_id']}/retry")
    assert [again.status_code, again.json()["conversation_id"]] == [201, "mine"]
    assert history(alice, "mine")["count"] == 2
    ask(alice, path="/v1/images/generations", model=None)
    assert Task.objects.filter(model="stable-diffusion-3", family="sd").exists()


def test_strangers_see_nothing(alice):
    made = ask(alice, conversation_id="diary")
    bob = rich("bob")
    for path, detail in (
        (f"/v1/tasks/{made['task_id']}", "Task not found"),
        (f"/v1/tasks/{new_id()}", "Task not found"),
        (f"/v1/batches/{made['batch_id']}", "Batch ID not found"),
        ("/v1/batches/abc", "Batch ID not found"),
        ("/v1/conversations/diary/history", "Conversation not found"),
    ):
        answer = bob.get(path)
        assert [answer.status_code, answer.json()["detail"]] == [404, detail]
    assert bob.get("/v1/tasks").json() == {"tasks": [], "total": 0}
    assert bob.get("/v1/conversations").json() == {"conversations": [], "total": 0}
    assert bob.get("/api/v1/conversations/diary").status_code == 404
    assert bob.delete("/v1/conversations/diary").status_code == 404
    ask(bob, conversation_id="diary")
    assert history(bob, "diary")["count"] == history(alice, "diary")["count"] == 2


def test_a_batch_is_canceled_as_a_whole(alice):
    made = ask(alice, model="sandbox-text,gemini-x")
    batch = alice.post(f"/v1/batches/{made['batch_id']}/cancel").json()
    assert [one["status_name"] for one in batch["results"]] == ["CANCELLED", "CANCELLED"]
    assert batch["status"] == "FAILED"


def test_the_same_key_makes_one_batch(alice):
    first, again = (alice.post(CHAT, ASK, Idempotency_Key="k") for _ in range(2))
    assert first.json() == again.json()
    assert again["Idempotency-Replayed"] == "true"
    assert [Batch.objects.count(), Conversation.objects.get().turns] == [1, 2]


def test_turns_take_their_place_at_submit(alice):
    ask(alice, conversation_id="c", model="sandbox-text,gemini-x")
    second = ask(alice, conversation_id="c", prompt="and a blue one")
    talk = history(alice, "c")
    roles = [(one["role"], one["model"], one["is_loading"]) for one in talk["messages"]]
    assert roles == [
        ("user", None, False),
        ("assistant", "sandbox-text", True),
        ("assistant", "gemini-x", True),
        ("user", None, False),
        ("assistant", "sandbox-text", True),
    ]
    assert [talk["title"], talk["count"]] == ["a red kite", 5]
    assert talk["messages"][3]["content"] == "and a blue one"
    assert talk["messages"][4]["task_id"] == second["task_id"]
    bare = alice.get("/v1/conversations/c/history?format=list&limit=2").json()
    assert bare == talk["messages"][3:]
    native = alice.get("/api/v1/conversations/c/turns?limit=4").json()
    assert [turn["index"] for turn in native["items"]] == [0, 1, 2, 3]
    rest = alice.get(f"/api/v1/conversations/c/turns?cursor={native['next_cursor']}").json()
    assert [turn["index"] for turn in rest["items"]] == [4]
    assert rest["has_more"] is False
    listed = alice.get("/v1/conversations").json()
    assert [one["conversation_id"] for one in listed["conversations"]] == ["c"]


def test_conversations_of_the_native_api(alice):
    url = "/api/v1/conversations"
    made = alice.post(url, {"id": "plans", "title": "Plans", "metadata": {"a": 1}})
    assert [made.status_code, made.json()["turns"]] == [201, 0]
    again = alice.post(url, {"id": "plans", "title": "Others"})
    assert [again.status_code, again.json()] == [200, made.json()]
    assert alice.post(url, {}).status_code == 201
    assert alice.post(url, {"id": "x" * 129}).status_code == 422
    task = {"model": "sandbox-text", "input": {"prompt": "hi"}, "conversation_id": "plans"}
    assert alice.post("/api/v1/tasks", task).status_code == 201
    assert alice.get(f"{url}/plans").json()["turns"] == 2
    assert history(alice, "plans")["title"] == "Plans"
    assert alice.delete(f"{url}/plans").status_code == 204
    assert alice.get(f"{url}/plans/turns").status_code == 404
    assert Task.objects.count() == 1


def form(who, files, **fields):
    return who.client.post(
        CHAT,
        {**ASK, "sandbox": json.dumps(ASK["sandbox"]), "files": files, **fields},
        headers=who.headers,
    )


def test_files_go_to_the_models(alice):
    files = [
        SimpleUploadedFile("kite.png", PNG, "image/png"),
        SimpleUploadedFile("notes.txt", b"fly high", "text/plain"),
    ]
    answer = form(alice, files, model="sandbox-text,gemini-x", conversation_id="f")
    assert answer.status_code == 200, answer.content
    asset = Asset.objects.get(kind="image")
    for content in TaskContent.objects.all():
        given = content.input or {}
        assert given["images"] == [f"asset:{asset.id}"]
        assert given["messages"][0]["content"][0]["text"] == "notes.txt:\nfly high"
    task = alice.get(f"/v1/tasks/{answer.json()['task_id']}").json()
    assert [task["task_type"], task["prompt"]] == ["MULTIMODAL", "a red kite"]
    asked = history(alice, "f")["messages"][0]
    assert [asked["content"], len(asked["files"])] == ["a red kite", 1]


def test_refused_files_leave_nothing(alice):
    assert (
        form(alice, [SimpleUploadedFile("x.zip", b"PK\3\4....", "application/zip")]).status_code
        == 422
    )
    image = SimpleUploadedFile("kite.png", PNG, "image/png")
    assert form(alice, [image], model="nobody-knows").status_code == 422
    many = [SimpleUploadedFile(f"{n}.txt", b"x", "text/plain") for n in range(17)]
    assert form(alice, many).status_code == 422
    assert not Asset.objects.filter(deleted_at=None).exists()
    assert not Task.objects.exists()


def test_every_status_has_its_words():
    assert set(chat_words.WORDS) == set(Status)
    assert {code for _, code in chat_words.WORDS.values()} == {0, 1, 2, 3}


def test_slots_come_after_the_name():
    assert chat.slots(["gemini-x", "b"], 2) == ["gemini-x", "gemini-x(#1)", "b"]


def test_a_story(stack, monkeypatch):
    """A talk with two models: answers, a failure, context of later turns, and how it reads afterwards."""
    sandbox()
    alice = rich("alice")
    monkeypatch.setattr(config, "default_chat_model", "sandbox-text")
    first = ask(alice, conversation_id="talk", model=None)
    all_ended(first["task_ids"])
    failed = ask(
        alice, conversation_id="talk", prompt="oh", sandbox={"latency": 0, "fail": "bad_input"}
    )
    all_ended(failed["task_ids"])
    slow = ask(alice, conversation_id="talk", prompt="wait", sandbox={"latency": 20})
    third = ask(alice, conversation_id="talk", prompt="and now?")
    all_ended(third["task_ids"])

    done = alice.get(f"/v1/tasks/{first['task_id']}").json()
    assert [done["status"], done["status_code"]] == ["SUCCESS", 1]
    assert done["response_text"] == "[sandbox] sandbox-text: a red kite"
    assert isinstance(done["cost_time"], float)
    batch = alice.get(f"/v1/batches/{first['batch_id']}").json()
    assert [batch["status"], batch["results"][0]["status"]] == ["COMPLETED", 1]
    assert alice.get(f"/v1/batches/{failed['batch_id']}").json()["status"] == "FAILED"
    assert alice.get(f"/v1/tasks/{failed['task_id']}").json()["error_msg"]

    context = TaskContent.objects.get(pk=third["task_id"]).options["context"]
    assert context == [
        {"role": "user", "content": "a red kite"},
        {"role": "assistant", "content": "[sandbox] sandbox-text: a red kite"},
    ]
    alice.post(f"/v1/tasks/{slow['task_id']}/cancel")
    all_ended(slow["task_ids"])
    talk = history(alice, "talk")
    assert [one["status"] for one in talk["messages"] if one["role"] == "assistant"] == [
        "SUCCESS",
        "FAILED",
        "CANCELLED",
        "SUCCESS",
    ]
    assert talk["messages"][3]["content"]

    assert alice.delete("/v1/conversations/talk").json() == {"success": True}
    ask(alice, conversation_id="talk")
    assert history(alice, "talk")["count"] == 2  # the old turns do not come back

    drawn = ask(alice, path="/v1/images/generations", model="sandbox-image", size="32x32")
    all_ended(drawn["task_ids"])
    image = alice.get(f"/v1/tasks/{drawn['task_id']}").json()
    assert image["result_url"] == image["result_urls"][0]


def frames(who, key, **fields):
    answer = who.post(CHAT, {**ASK, "stream": True, **fields}, headers={"Idempotency-Key": key})
    assert answer.headers["Content-Type"].startswith("text/event-stream"), answer.text
    lines = [line[6:] for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert lines.pop() == "[DONE]"
    assert Task.objects.filter(finished_at=None).count() == 0
    return [json.loads(line) for line in lines]


def said(chunks, place):
    choices = [chunk["choices"][0] for chunk in chunks]
    return "".join(c["delta"].get("content", "") for c in choices if c["index"] == place)


def test_answers_while_they_are_written(web):
    """Two models speak at once; a replay hears the same again, and one that fails says so."""
    sandbox()
    alice = listeners.rich(web)
    two = {"prompt": "one two three", "model": "sandbox-text,Sandbox-Text"}
    first, *chunks = frames(alice, "s1", **two)
    assert set(first) == {"batch_id", "conversation_id", "task_ids", "task_id", "status"}
    text = "[sandbox] sandbox-text: one two three"
    for place in (0, 1):
        mine = [chunk for chunk in chunks if chunk["choices"][0]["index"] == place]
        assert {chunk["task_id"] for chunk in mine} == {first["task_ids"][place]}
        assert mine[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert mine[-1]["choices"][0]["finish_reason"] == "stop"
        assert len(mine) > 3  # it came in parts
        assert said(chunks, place) == text
    again = frames(alice, "s1", **two)
    assert again[0] == first
    assert [said(again[1:], place) for place in (0, 1)] == [text, text]

    refused = frames(alice, "s2", sandbox={"latency": 0, "fail": "content_refused"})[1:]
    assert [refused[0]["error"]["code"], refused[0]["model"]] == [
        "content_policy_violation",
        "sandbox-text",
    ]
    drawn = frames(alice, "s3", mode="image", model="sandbox-image")
    assert drawn[-1]["choices"][0]["finish_reason"] == "stop"
