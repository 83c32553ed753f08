"""Watching tasks as they happen: answers that wait, long polls, server-sent events, deltas."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest
from django.db import connection

from genpulse.events.bells import live
from tasks.models import Task
from tests.integration.listeners import Frames, joined, rich, stored, task_body
from tests.integration.stack import eventually, sandbox


@pytest.fixture
def alice(web):
    sandbox(slots=16)
    return rich(web)


def ends(events):
    return [event["type"] for event in events if event["type"] == "task.succeeded"]


def test_an_answer_that_waits_for_the_end(alice):
    done = alice.post(
        "/api/v1/tasks",
        task_body({"latency": 0.5}),
        headers={"Prefer": "wait=20, handling=lenient"},
    )
    assert done.status_code == 201
    assert done.headers["Preference-Applied"] == "wait=20"
    assert done.headers["Location"] == f"/api/v1/tasks/{done.json()['id']}"
    assert done.json()["status"] == "succeeded"

    slow = alice.post("/api/v1/tasks", task_body({"latency": 60}), headers={"Prefer": "wait=1"})
    assert [slow.status_code, slow.headers["Preference-Applied"]] == [201, "wait=1"]
    assert not slow.json()["terminal"]
    path = f"/api/v1/tasks/{slow.json()['id']}"
    waiting = alice.get(f"{path}?wait=1")
    assert not waiting.json()["terminal"]
    known = waiting.headers["ETag"]
    threading.Timer(0.3, alice.post, [f"{path}/cancel"]).start()
    ended = alice.get(f"{path}?wait=30", headers={"If-None-Match": known})
    assert ended.json()["status"] == "canceled"
    assert alice.get(f"{path}?wait=30").json()["status"] == "canceled"

    for text in ("wait=0", "wait=61", "wait=soon", "wait=", "respond-async, wait=-1"):
        refused = alice.post("/api/v1/tasks", task_body(), headers={"Prefer": text})
        assert [refused.status_code, refused.json()["code"]] == [400, "malformed_header"], text
    for text in ("0", "61", "x"):
        assert alice.get(f"{path}?wait={text}").status_code == 422
    ignored = alice.post("/api/v1/tasks", task_body(), headers={"Prefer": "respond-async"})
    assert "Preference-Applied" not in ignored.headers


def test_a_replay_waits_on_the_same_task(alice):
    headers = {"Prefer": "wait=20", "Idempotency-Key": "once"}
    body = task_body({"latency": 1})
    first = alice.post("/api/v1/tasks", body, headers={"Idempotency-Key": "once"})
    assert not first.json()["terminal"]
    again = alice.post("/api/v1/tasks", body, headers=headers)
    assert again.headers["Idempotency-Replayed"] == "true"
    assert [again.json()["id"], again.json()["status"]] == [first.json()["id"], "succeeded"]


def test_batches_wait_too(alice):
    items = [{"input": {"sandbox": {"latency": latency}}} for latency in (0, 0.5)]
    body = task_body(items=items)
    done = alice.post("/api/v1/batches", body, headers={"Prefer": "wait"})
    assert done.headers["Preference-Applied"] == "wait=60"
    assert done.json()["status"] == "completed"
    made = alice.post("/api/v1/batches", body).json()
    ended = alice.get(f"/api/v1/batches/{made['id']}?wait=30").json()
    assert ended["terminal"]


def test_long_polls_answer_with_the_next_event(alice):
    task = alice.submit({"latency": 0.3})
    path, after = f"/api/v1/tasks/{task['id']}/events", 0
    seen: list[Any] = []
    while not seen or seen[-1]["type"] != "task.succeeded":
        page = alice.get(f"{path}?after={after}&wait=20").json()
        assert page["items"]
        seen += page["items"]
        after = page["last_seq"]
    assert [event["seq"] for event in seen] == [1, 2, 3, 4]
    assert alice.get(f"{path}?after=4&wait=20").json()["items"] == []

    made = alice.post("/api/v1/batches", task_body(items=[{}, {}])).json()
    path, query = f"/api/v1/batches/{made['id']}/events", ""
    types: list[str] = []
    while not types or types[-1] != "batch.completed":
        page = alice.get(f"{path}?wait=20{query}").json()
        types += [event["type"] for event in page["items"]]
        query = f"&after={page['last_cursor']}"
    # Cursors follow transaction ids: a round of admission that began before the submit may stand before it.
    assert types.count("batch.created") == 1
    assert types.count("task.queued") == types.count("task.succeeded") == 2
    assert types.count("task.succeeded") == 2


def test_a_task_as_a_stream(alice):
    task = alice.submit({"latency": 1})
    path = f"/api/v1/tasks/{task['id']}/events"
    frames = alice.stream(path)
    assert frames.answer.headers["Content-Type"] == "text/event-stream"
    assert frames.answer.headers["Cache-Control"] == "no-cache"
    assert frames.answer.headers["X-Accel-Buffering"] == "no"
    assert "Content-Encoding" not in frames.answer.headers
    seen = list(frames)
    kept = [(label, event) for label, event in seen if event["id"]]
    assert [label for label, _ in kept] == ["1", "2", "3", "4"]
    assert [event["type"] for _, event in kept] == [
        "task.queued",
        "task.admitted",
        "task.running",
        "task.succeeded",
    ]
    progress = [(label, event) for label, event in seen if event["type"] == "task.progress"]
    assert progress
    assert all(label is None and event["seq"] is None for label, event in progress)
    numbers = [event["data"]["progress"] for _, event in progress]
    assert numbers == sorted(numbers)
    assert progress[0][1]["data"].keys() == {"progress", "phase", "step", "steps", "node"}

    rest = alice.stream(path, Last_Event_ID="2")
    assert [label for label, _ in rest] == ["3", "4"]
    assert alice.stream(f"{path}?after=3").events()[0]["seq"] == 4
    assert alice.stream(path, Last_Event_ID="4").answer.status_code == 204
    assert alice.get(f"{path}?stream=1&after=3").text.startswith("id: 4\nevent: task.succeeded\n")
    assert alice.stream(path, Last_Event_ID="x").answer.status_code == 400
    head = alice.session.head(alice.base + path, headers={"Accept": "text/event-stream"})
    assert head.headers["Content-Type"] == "text/event-stream"


def test_a_batch_as_a_stream(alice):
    made = alice.post("/api/v1/batches", task_body({"latency": 0.3}, items=[{}, {}, {}])).json()
    path = f"/api/v1/batches/{made['id']}/events"
    seen = list(alice.stream(path))
    kept = [event for label, event in seen if label == event["id"] and label]
    assert kept[0]["type"] == "batch.created"
    assert kept[-1]["type"] == "batch.completed"
    assert [event["type"] for event in kept].count("task.succeeded") == 3
    for child in made["tasks"]:
        own = [event["seq"] for event in kept if event["task_id"] == child["id"]]
        assert own == [1, 2, 3, 4]
    rest = alice.stream(path, Last_Event_ID=kept[-3]["id"])
    assert [event["id"] for event in rest.events()] == [event["id"] for event in kept[-2:]]
    assert alice.stream(path, Last_Event_ID=kept[-1]["id"]).answer.status_code == 204


def test_who_watches_hears_of_places_and_of_progress(alice):
    """One place, taken: a task that waits is told when it comes nearer, a batch how far it is."""
    there = {"executor": {"only": [sandbox("narrow", slots=1).name]}}
    blocker = alice.submit({"latency": 100}, **there)
    eventually(lambda: Task.objects.filter(pk=blocker["id"], status="running").exists())
    before = alice.submit(**there)
    made = alice.post("/api/v1/batches", task_body(items=[{}], **there)).json()
    [child] = made["tasks"]
    of_batch = iter(alice.stream(f"/api/v1/batches/{made['id']}/events"))
    of_child = iter(alice.stream(f"/api/v1/tasks/{child['id']}/events"))
    far = next_place(of_child, 2)
    assert [far["id"], far["seq"], far["task_id"]] == [None, None, child["id"]]
    assert set(far["data"]) == {"position", "eta"}
    waiting = next_of(of_batch, "batch.progress")
    assert [waiting["task_id"], waiting["batch_id"]] == [None, made["id"]]
    assert waiting["data"]["counts"]["queued"] == 1
    assert waiting["data"]["progress"] == 0

    alice.post(f"/api/v1/tasks/{before['id']}/cancel")
    assert next_place(of_child, 1)
    alice.post(f"/api/v1/tasks/{blocker['id']}/cancel")
    assert next_of(of_child, "task.succeeded")
    assert next_of(of_batch, "batch.completed")


def next_place(frames: Iterator[Any], place: int) -> dict[str, Any]:
    """The event that says so; the first ones may be a second old."""
    return next(
        event
        for _, event in frames
        if event["type"] == "task.position" and event["data"]["position"] == place
    )


def next_of(frames: Iterator[Any], kind: str) -> dict[str, Any]:
    """The next event of a type."""
    return next(event for _, event in frames if event["type"] == kind)


def test_a_submit_that_answers_with_its_stream(alice):
    words = " ".join(f"word{number}" for number in range(40))
    frames = alice.post(
        "/api/v1/tasks",
        task_body({"text": words, "chunk_delay": 0.01}, stream=True),
        headers={"Accept": "text/event-stream", "Idempotency-Key": "s"},
        stream=True,
    )
    assert frames.status_code == 200
    events = Frames(frames).events()
    task = events[0]["task_id"]
    assert frames.headers["X-GenPulse-Task-Id"] == task
    assert events[-1]["type"] == "task.succeeded"
    assert joined(events) == words == events[-1]["data"]["output"]["text"]
    assert len([event for event in events if event["type"] == "task.delta"]) > 3

    again = alice.post(
        "/api/v1/tasks",
        task_body({"text": words, "chunk_delay": 0.01}, stream=True),
        headers={"Accept": "text/event-stream", "Idempotency-Key": "s"},
        stream=True,
    )
    assert again.headers["Idempotency-Replayed"] == "true"
    replayed = Frames(again).events()
    assert stored(replayed) == stored(events)
    assert joined(replayed) == words


def test_deltas_have_no_hole_whatever_is_lost(alice):
    """Readers join late and come again, and Redis forgets everything, twice."""
    words = " ".join(f"word{number}" for number in range(120))
    task = alice.submit({"text": words, "chunk_delay": 0.02}, stream=True)
    path = f"/api/v1/tasks/{task['id']}/events"
    results = []

    def read(delay):
        time.sleep(delay)
        results.append(alice.stream(path).events())

    readers = [threading.Thread(target=read, args=[delay]) for delay in (0, 0.7, 1.4)]
    for reader in readers:
        reader.start()
    eventually(lambda: Task.objects.filter(pk=task["id"], status="running").exists())
    for _ in range(2):
        time.sleep(0.5)
        live().flushdb()
    for reader in readers:
        reader.join()
    for events in results:
        assert events[-1]["type"] == "task.succeeded"
        assert joined(events) == words
    late = alice.stream(path).events()
    assert joined(late) == words
    assert [event["data"]["reset"] for event in late if event["type"] == "task.delta"] == [True]


@pytest.mark.parametrize("streamed", [True, False])
def test_nothing_is_tried_again_after_the_first_delta(alice, streamed):
    task = alice.submit({"cut_after": 2, "times": 1, "text": "a b c d"}, stream=streamed)
    events = alice.stream(f"/api/v1/tasks/{task['id']}/events").events()
    if streamed:
        assert events[-1]["type"] == "task.failed"
        assert events[-1]["data"]["error"]["code"] == "upstream_cut"
        assert joined(events) == "a b "
    else:
        assert events[-1]["type"] == "task.succeeded"
        assert Task.objects.get(pk=task["id"]).attempt == 2


def test_a_reader_cut_again_and_again_ends_with_the_full_sequence(alice):
    task = alice.submit({"fail": "transient", "times": 4, "latency": 0.2}, max_attempts=6)
    path, after = f"/api/v1/tasks/{task['id']}/events", "0"
    seen: list[Any] = []
    while not ends(seen):
        frames = alice.stream(path, Last_Event_ID=after)
        for label, event in frames:
            if label is not None:
                seen.append(event)
                after = label
                break
        frames.answer.close()
        live().flushdb()
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))


def test_readers_hold_neither_a_thread_nor_a_connection(alice, processes):
    task = alice.submit(run_at=(datetime.now(UTC) + timedelta(days=1)).isoformat())["id"]
    path = f"/api/v1/tasks/{task}/events"
    with ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(alice.stream(path).answer)
        web = psutil.Process(processes.processes["web"].pid)
        assert eventually(lambda: web.num_threads() < 40)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            )
            assert cursor.fetchone()[0] < 40
        alice.post(f"/api/v1/tasks/{task}/cancel")
