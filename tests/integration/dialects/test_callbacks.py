"""What services of the dialects hear without asking: callbacks in the door's own form, and batches that end by themselves."""

from urllib.parse import urlsplit

import pytest

from tests.integration.cast import caller
from tests.integration.receiver import receiving
from tests.integration.stack import all_ended, eventually, sandbox
from wallet import services as wallet

QUICK = {"latency": 0}
REFUSED = {"latency": 0, "fail": "content_refused"}


@pytest.fixture
def alice(stack):
    sandbox(slots=16)
    alice = caller("alice", "tasks", "webhooks")
    wallet.deposit(alice.user.account_id, 1_000_000_000, reason="test")
    return alice


@pytest.fixture
def receiver():
    with receiving() as receiver:
        yield receiver


def made(who, path, **body):
    answer = who.post(path, body)
    assert answer.status_code in {200, 201}, answer.content
    return answer.json()


def heard(receiver, count=1):
    eventually(lambda: len(receiver.accepted()) >= count)
    assert len(receiver.accepted()) == count
    return [call.body for call in receiver.accepted()]


def unsigned(document):
    """URLs are signed anew each time, for the address of whoever signs."""
    if isinstance(document, dict):
        items = ((name, value) for name, value in document.items() if name != "url_expires_at")
        return {name: unsigned(value) for name, value in items}
    if isinstance(document, list):
        return [unsigned(one) for one in document]
    is_url = isinstance(document, str) and document.startswith("http")
    return urlsplit(document).path if is_url else document


@pytest.mark.parametrize("controls", [QUICK, REFUSED], ids=["success", "failure"])
def test_generation(alice, receiver, controls):
    params = {"prompt": "kite", "sandbox": controls}
    task = made(
        alice,
        "/task",
        task_type="image",
        provider="sandbox",
        params=params,
        callback_url=receiver.url,
    )
    [body] = heard(receiver)
    assert unsigned(body) == unsigned(alice.get(f"/task/{task['task_id']}").json())
    assert body["status"] == ("failed" if "fail" in controls else "completed")
    secret = alice.get("/api/v1/webhook-secret").json()["secret"]
    [call] = receiver.calls
    assert call.signatures == [call.expected(secret)]


@pytest.mark.parametrize("controls", [QUICK, REFUSED], ids=["success", "failure"])
def test_chat(alice, receiver, controls):
    asked = made(
        alice,
        "/v1/chat/completions",
        prompt="hi",
        model="sandbox-text",
        sandbox=controls,
        callback_url=receiver.url,
    )
    [body] = heard(receiver)
    shown = alice.get(f"/v1/tasks/{asked['task_id']}").json()
    assert unsigned(body) == unsigned(shown)
    assert body["status_code"] == (2 if "fail" in controls else 1)
    assert bool(body["error_msg"]) == ("fail" in controls)


@pytest.mark.parametrize("controls", [QUICK, REFUSED], ids=["success", "failure"])
def test_ai_service(alice, receiver, controls):
    """The receiver is told what the result path answers."""
    asked = made(
        alice,
        "/ai/text/task",
        prompt="hi",
        user_id="alice",
        provider="sandbox",
        sandbox=controls,
        callback_url=receiver.url,
    )
    [body] = heard(receiver)
    shown = alice.get(f"/ai/text/result/{asked['data']['task_id']}")
    assert (shown.status_code, body) == (200, shown.json())
    assert body["success"] is ("fail" not in controls)
    assert body["data"]["status"] == ("failed" if "fail" in controls else "completed")
    assert bool(body["data"]["text_result"]) is body["success"]
    secret = alice.get("/api/v1/webhook-secret").json()["secret"]
    [call] = receiver.calls
    assert call.signatures == [call.expected(secret)]


def test_a_receiver_that_is_down_hears_it_later_under_the_same_id(alice, receiver):
    answers = iter([503, 204])
    receiver.answer = lambda body: (next(answers), {"Retry-After": "0"})
    made(
        alice,
        "/task",
        task_type="text-to-image",
        provider="sandbox",
        params={"prompt": "kite", "sandbox": QUICK},
        callback_url=receiver.url,
    )
    heard(receiver)
    assert [call.status for call in receiver.calls] == [503, 204]
    assert len({call.id for call in receiver.calls}) == 1


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/task", {"task_type": "text-to-image", "params": {"prompt": "x"}}, 422),
        ("/v1/chat/completions", {"prompt": "x", "model": "sandbox-text"}, 422),
        ("/ai/image/task", {"prompt": "x", "user_id": "alice"}, 400),
    ],
)
def test_addresses_nobody_may_call(db, path, body, status):
    given = {"provider": "sandbox", **body, "callback_url": "http://10.0.0.7/hook"}
    answer = caller("alice", "tasks").post(path, given)
    assert (answer.status_code, answer.json()["code"]) == (status, "url_not_allowed")
    assert "10.0.0.7" not in answer.content.decode()


def test_a_fan_out_of_which_one_fails(alice):
    """The batch leaves PROCESSING by itself: one succeeded, one is refused, none of the others' words change."""
    fast = made(alice, "/v1/chat/completions", prompt="hi", model="sandbox-text, gemini-nobody")
    all_ended(fast["task_ids"][:1])
    path = f"/v1/batches/{fast['batch_id']}"
    shown = alice.get(path).json()
    assert shown["status"] == "PROCESSING"
    assert [one["model_name"] for one in shown["results"]] == ["sandbox-text", "gemini-nobody"]
    done, waits = shown["results"]
    assert (done["status"], type(done["cost_time"])) == (1, float)
    assert (waits["status"], waits["response_text"], waits["cost_time"]) == (0, None, None)
    assert shown["finished_at"] is None

    alice.post(f"/v1/tasks/{fast['task_ids'][1]}/cancel")
    shown = eventually(
        lambda: (found := alice.get(path).json())["status"] != "PROCESSING" and found
    )
    assert (shown["status"], [one["status"] for one in shown["results"]]) == ("PARTIAL", [1, 2])
    assert shown["results"][1]["error_msg"] == "canceled"
    assert shown["finished_at"] is not None
    assert wallet.balance(alice.user.account_id).held == 0


def test_a_refusal_among_answers(alice):
    """Same prompt, two models: the one whose answer is a refusal fails alone."""
    asked = made(
        alice,
        "/v1/chat/completions",
        prompt="hi",
        model="sandbox-text,sandbox-text",
        sandbox=REFUSED,
    )
    assert len(asked["task_ids"]) == 1
    all_ended(asked["task_ids"])
    shown = alice.get(f"/v1/batches/{asked['batch_id']}").json()
    assert (shown["status"], shown["results"][0]["status"]) == ("FAILED", 2)
    assert shown["results"][0]["error_msg"]
    talk = alice.get(f"/v1/conversations/{asked['conversation_id']}/history").json()
    assert [(one["role"], one["status"]) for one in talk["messages"]] == [
        ("user", "SUCCESS"),
        ("assistant", "FAILED"),
    ]
    assert talk["messages"][1]["content"] == shown["results"][0]["error_msg"]
    strangers = caller("bob", "tasks")
    assert strangers.get(f"/v1/conversations/{asked['conversation_id']}/history").json()[
        "detail"
    ] == ("Conversation not found")
