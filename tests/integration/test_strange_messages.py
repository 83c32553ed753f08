"""What no orchestrator sends: broken, foreign, doubled and stale messages change nothing, and the workers go on."""

import base64
import json
import os
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from genpulse.celery import app
from genpulse.ids import new_id
from tasks.models import Attempt, DeadLetter, Task
from tests.chaos.rig import Rig
from tests.integration.stack import Stack, all_ended, eventually

QUEUE, MEDIA = "gp:sandbox", "gp:media"  # as the broker names them: prefix and queue


@pytest.fixture
def broker() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        yield client


def envelope(body: bytes, **changes: Any) -> str:
    """A message as the transport writes it."""
    id_ = str(uuid.uuid4())
    message = {
        "body": base64.b64encode(body).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "gp.submit", "id": id_, "root_id": id_},
        "properties": {
            "correlation_id": id_,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "sandbox"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": id_,
        },
    }
    return json.dumps(message | changes)


class Unpickled:
    """Whoever loads it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


ARGUMENTS: dict[str, list[Any]] = {
    "none": [],
    "words": ["sandbox", 1, "all"],
    "no attempts": ["sandbox", 1, []],
    "level": ["sandbox", 9, [[str(new_id()), 1]]],
    "unhashable level": ["sandbox", [1], [[str(new_id()), 1]]],
    "queue": [7, 1, [[str(new_id()), 1]]],
    "id": ["sandbox", 1, [["; DROP TABLE tasks_task", 1]]],
    "number": ["sandbox", 1, [[str(new_id()), "1"]]],
    "old form": [str(new_id()), 1],
}


def test_arguments_that_are_no_ids_are_kept_for_operators(stack: Stack) -> None:
    rig = Rig(stack, scale=1)
    for arguments in ARGUMENTS.values():
        app.send_task("gp.submit", args=arguments, queue="sandbox")
    eventually(lambda: DeadLetter.objects.filter(source="gp.submit").count() == len(ARGUMENTS))
    healthy(rig)


def test_what_is_no_message_at_all_stops_nobody(
    stack: Stack, broker: redis.Redis, tmp_path: Path
) -> None:
    rig = Rig(stack, scale=1)
    canary = tmp_path / "unpickled"
    unsafe = pickle.dumps(Unpickled(canary))
    for raw in (
        "",
        "no json",
        "[]",
        "{}",
        b"\xff\xfe",
        json.dumps({"body": "x", "properties": {}}),
        envelope(b"no json"),
        envelope(b"[1, 2]"),
        envelope(unsafe, **{"content-type": "application/x-python-serialize"}),
        envelope(
            b"!!python/object/apply:os.system ['true']", **{"content-type": "application/x-yaml"}
        ),
        envelope(b'[["x"], {}, {}]', headers={"lang": "py", "task": "gp.unknown", "id": "1"}),
        envelope(b'[["x"], {}, {}]', headers={}),
        envelope(b'[["' + b"x" * 5_000_000 + b'"], {}, {}]'),
    ):
        broker.lpush(QUEUE, raw)
        broker.lpush(MEDIA, raw)
    eventually(lambda: broker.llen(QUEUE) + broker.llen(MEDIA) == 0)
    healthy(rig)
    assert DeadLetter.objects.filter(source="broker").exists()
    assert not canary.exists()


def test_a_stale_and_a_foreign_attempt_are_refused(stack: Stack) -> None:
    rig = Rig(stack, scale=1)
    [done] = healthy(rig)
    claims = [[str(done.id), 1], [str(done.id), 2], [str(new_id()), 1]]
    app.send_task("gp.submit", args=["sandbox", 1, claims], queue="sandbox")
    healthy(rig)
    assert Attempt.objects.filter(task_id=done.id).count() == 1
    assert Task.objects.get(pk=done.id).status == "succeeded"


def healthy(rig: Rig) -> list[Task]:
    """Work that came after it is done as ever, by the processes that were there before."""
    pids = {name: process.pid for name, process in rig.stack.processes.items()}
    ids = rig.submit(rig.owner(), "sandbox-text", rig.executor(slots=8), 1)
    tasks = all_ended(ids)
    assert [task.status for task in tasks] == ["succeeded"]
    assert all(process.poll() is None for process in rig.stack.processes.values()), pids
    return tasks
