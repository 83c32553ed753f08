"""Chat through the official client: answers, streams, tools, and clients that go away."""

import asyncio
import json
import threading
from contextlib import suppress
from uuid import UUID

import openai
import pytest
import requests

from genpulse.events.bells import live
from genpulse.ids import new_id
from tasks.hub import Hub
from tasks.models import Status, Task
from tests.integration.listeners import Remote
from tests.integration.openai_client import HELLO, SAID, client, ended, house, sandboxed
from tests.integration.stack import eventually
from wallet import services as wallet

__all__ = ["client", "house"]
TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object"}}}
    for name in ("fly", "land")
]
CROWD = 100  # streams at the same time


def ask(client, body=None, **fields):
    return client.chat.completions.create(
        model="sandbox-text", messages=HELLO, extra_body=body or sandboxed(), **fields
    )


def test_an_answer(client):
    raw = client.chat.completions.with_raw_response.create(
        model="sandbox-text",
        messages=[{"role": "system", "content": "be brief"}, *HELLO],
        temperature=0.5,
        max_completion_tokens=50,
        extra_body={**sandboxed(), "priority": "high", "conversation_id": "c-1"},
        user="u-7",
    )
    done = raw.parse()
    task = Task.objects.get(pk=raw.headers["x-genpulse-task-id"])
    assert done.id == f"chatcmpl-{task.id.hex}"
    assert [done.object, done.model, done.created] == [
        "chat.completion",
        "sandbox-text",
        int(task.created_at.timestamp()),
    ]
    [choice] = done.choices
    assert [choice.message.role, choice.message.content] == ["assistant", SAID]
    assert [choice.finish_reason, choice.message.refusal] == ["stop", None]
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens > 0
    assert raw.headers["x-request-id"] == done._request_id
    assert [task.source, task.status, task.priority] == ["openai", "succeeded", 0]
    assert task.conversation_id == "c-1"


def test_a_tool_call_both_ways(client):
    asked = {"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "land"}}}
    [choice] = ask(client, **asked).choices
    [call] = choice.message.tool_calls
    assert [call.function.name, call.function.arguments] == ["land", "{}"]
    assert [choice.finish_reason, choice.message.content] == ["tool_calls", None]

    chunks = list(ask(client, **asked, stream=True))
    [piece] = [c for chunk in chunks for c in chunk.choices[0].delta.tool_calls or []]
    assert [piece.index, piece.function.name, piece.function.arguments] == [0, "land", "{}"]
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    answered = [*HELLO, choice.message, {"role": "tool", "tool_call_id": call.id, "content": "ok"}]
    again = client.chat.completions.create(
        model="sandbox-text", messages=answered, extra_body=sandboxed()
    )
    assert again.choices[0].message.content == SAID


def test_a_stream(client, house):
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    *body, last = chunks
    assert last.choices == []
    assert last.usage.total_tokens > 0
    assert all(chunk.usage is None for chunk in body)
    first, *middle, end = [chunk.choices[0] for chunk in body]
    assert [first.delta.role, first.delta.content] == ["assistant", ""]
    assert "".join(choice.delta.content for choice in middle) == SAID
    assert len(middle) > 1
    assert [end.delta.content, end.finish_reason] == [None, "stop"]

    answer = house.native.post(
        "/v1/chat/completions",
        {"model": "sandbox-text", "messages": HELLO, "stream": True, **sandboxed()},
        stream=True,
    )
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert Task.objects.get(pk=answer.headers["X-GenPulse-Task-Id"]).source == "chat"
    lines = [line for line in answer.text.split("\n\n") if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    assert "usage" not in json.loads(lines[0][6:])


def test_a_replay_hears_the_stream_from_its_start(client):
    once = {"extra_headers": {"Idempotency-Key": "once"}, "stream": True}
    first = ask(client, **once)
    again = ask(client, **once)
    assert again.response.headers["idempotency-replayed"] == "true"
    texts = ["".join(c.choices[0].delta.content or "" for c in stream) for stream in (again, first)]
    assert texts == [SAID, SAID]
    assert Task.objects.count() == 1


def test_an_answer_that_breaks_off_is_no_answer(client, house):
    """After the first words nothing is tried again, and a stream says that it is not whole."""
    heard = []
    stream = ask(client, sandboxed(cut_after=2), stream=True)
    with pytest.raises(openai.APIError, match="broke"):
        heard.extend(stream)
    assert len(heard) >= 2
    task = Task.objects.get()
    assert [task.status, task.attempt] == ["failed", 1]

    body = {"model": "sandbox-text", "messages": HELLO, "stream": True}
    raw = house.native.post("/openai/v1/chat/completions", {**body, **sandboxed(fail="bad_input")})
    assert [raw.status_code, "[DONE]" in raw.text] == [200, False]
    said = json.loads(raw.text.strip().removeprefix("data: "))["error"]
    assert [said["type"], said["code"]] == ["invalid_request_error", "invalid_value"]
    whole = ask(client, sandboxed(cut_after=2, times=1))
    assert whole.choices[0].message.content == SAID


def test_a_stream_survives_the_loss_of_its_pieces(client):
    """The deltas are gone half-way: what was said goes on without a hole, or ends with an error."""
    words = " ".join(f"w{n}" for n in range(40))
    stream = ask(client, sandboxed(text=words, chunk_delay=0.05), stream=True)
    text, complete = "", False
    with suppress(openai.APIError):
        for count, chunk in enumerate(stream):
            if count == 5:
                live().flushdb()
            text += chunk.choices[0].delta.content or ""
            complete = chunk.choices[0].finish_reason == "stop"
    assert words.startswith(text)
    assert (text == words) == complete


@pytest.mark.parametrize(
    ("controls", "kind", "code"),
    [
        ({"fail": "bad_input"}, openai.BadRequestError, "invalid_value"),
        ({"fail": "content_refused"}, openai.BadRequestError, "content_policy_violation"),
        ({"fail": "lost"}, openai.InternalServerError, None),
    ],
)
def test_a_task_that_fails(house, controls, kind, code):
    """Retries of the client would only do the work again: there are none."""
    with house.client(max_retries=2) as client, pytest.raises(kind) as refused:
        ask(client, sandboxed(**controls))
    assert code in {None, refused.value.code}
    assert Task.objects.count() == 1
    task = Task.objects.get()
    assert refused.value.response.headers["x-genpulse-task-id"] == str(task.id)
    assert task.status == "failed"


def test_the_exceptions_of_the_official_client(client, web):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nope", messages=HELLO)
    assert [unknown.value.code, unknown.value.param] == ["model_not_found", "model"]
    with pytest.raises(openai.BadRequestError) as empty:
        client.chat.completions.create(model="sandbox-text", messages=[])
    assert empty.value.param == "messages"
    with (
        openai.OpenAI(base_url=f"{web}/openai/v1", api_key="wrong") as stranger,
        pytest.raises(openai.AuthenticationError),
    ):
        stranger.models.list()
    once = {"Idempotency-Key": "once"}
    ask(client, user="a", extra_headers=once)
    with pytest.raises(openai.UnprocessableEntityError):
        ask(client, user="b", extra_headers=once)


def test_a_canceled_task_ends_its_answer(client, house):
    native = Remote(house.native.base, house.native.who)

    def cancel():
        running = "/api/v1/tasks?status=running"
        [task] = eventually(lambda: native.get(running).json()["items"])
        native.post(f"/api/v1/tasks/{task['id']}/cancel")

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, sandboxed(latency=60))
    thread.join()
    assert refused.value.code == "canceled"


def hang_up(house, body, **headers):
    """A client that goes away while it waits; its task's id."""
    with requests.Session() as session:
        session.headers.update({**house.native.who.headers, **headers})
        url = f"{house.native.base}/openai/v1/chat/completions"
        whole = {"model": "sandbox-text", "messages": HELLO, **body}
        if body.get("stream"):
            answer = session.post(url, json=whole, stream=True, timeout=30)
            next(answer.iter_content(1))
            answer.close()
            return answer.headers["X-GenPulse-Task-Id"]
        with pytest.raises(requests.Timeout):
            session.post(url, json=whole, timeout=1.5)
    return eventually(lambda: Task.objects.values_list("pk", flat=True).first())


LONG = sandboxed(latency=0, text="word " * 2000, chunk_delay=0.05)


@pytest.mark.parametrize("body", [{"stream": True, **LONG}, sandboxed(latency=60)])
def test_nobody_waits_for_an_answer_any_more(house, body):
    task = ended(hang_up(house, body), Status.CANCELED)
    assert wallet.balance(task.account_id).held == 0


def test_somebody_else_waits(house, client):
    """The client that left may come back with its key, and others may watch the task."""
    keyed = hang_up(house, sandboxed(latency=2.5), **{"Idempotency-Key": "back"})
    again = ask(client, sandboxed(latency=2.5), extra_headers={"Idempotency-Key": "back"})
    assert again.id == f"chatcmpl-{keyed.hex}"

    stream = ask(client, sandboxed(text="word " * 60, chunk_delay=0.05), stream=True)
    task_id = stream.response.headers["x-genpulse-task-id"]
    watcher = house.native.stream(f"/api/v1/tasks/{task_id}/events")
    events = iter(watcher)
    next(events)
    stream.close()
    assert [event for _, event in events][-1]["type"] == "task.succeeded"
    ended(task_id, Status.SUCCEEDED)


def test_other_web_processes_know_who_waits(house):
    """This process asks; the one that holds the stream answers."""
    task = house.native.submit({"latency": 60})
    watcher = house.native.stream(f"/api/v1/tasks/{task['id']}/events")
    events = iter(watcher)
    next(events)
    account = house.native.who.user.account_id

    async def waited_for(*ids):
        here = Hub()
        try:
            return [await here.waited_for(id_, account) for id_ in ids]
        finally:
            for running in here._running:
                running.cancel()
            await asyncio.gather(*here._running, return_exceptions=True)
            await here.redis.aclose()

    assert asyncio.run(waited_for(UUID(task["id"]), new_id())) == [True, False]
    watcher.answer.close()
    house.native.post(f"/api/v1/tasks/{task['id']}/cancel")


def test_a_crowd_listens(house):
    """Many streams on one web process, without a thread or connection for each."""

    async def listen(client, name):
        text = ""
        stream = await client.chat.completions.create(
            model="sandbox-text",
            messages=HELLO,
            stream=True,
            extra_body=sandboxed(text=f"{name} says a few words", chunk_delay=0.02),
        )
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
        return text

    async def crowd():
        async with house.eager(max_retries=0) as client:
            return await asyncio.gather(*(listen(client, n) for n in range(CROWD)))

    heard = asyncio.run(crowd())
    assert heard == [f"{n} says a few words" for n in range(CROWD)]
