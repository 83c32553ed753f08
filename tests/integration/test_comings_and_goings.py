"""Executors that come, move and go while everything runs: nobody is restarted, and nobody told but by the database."""

from typing import Any

from tasks.models import Task
from tests.emulators.base import as_fixture
from tests.emulators.ollama import Ollama
from tests.integration.cast import caller
from tests.integration.listeners import Remote, rich
from tests.integration.stack import all_ended, eventually

MODEL = "qwen3:8b"
EXECUTORS = "/api/admin/executors"
first = as_fixture(Ollama)
second = as_fixture(Ollama)


def asked(who: Remote) -> str:
    answer = who.post("/api/v1/tasks", {"model": MODEL, "input": {"prompt": "Hi"}})
    assert answer.status_code == 201, answer.content
    return str(answer.json()["id"])


def said(who: Remote, task: str) -> Any:
    all_ended([task])
    return who.get(f"/api/v1/tasks/{task}").json()["output"]["text"]


def is_blocked(task: str) -> bool:
    """Or has it ended? Every process may be half a second behind."""

    def settled() -> str | None:
        found = Task.objects.get(pk=task)
        return found.status if found.status == "blocked" or found.finished_at else None

    return eventually(settled) == "blocked"


def test_every_process_follows(web: str, first: Ollama, second: Ollama) -> None:
    alice, root = rich(web), Remote(web, caller("root", "admin"))
    first.says.text, second.says.text = "the first", "the second"
    early = asked(alice)
    eventually(lambda: Task.objects.filter(pk=early, status="blocked").exists())

    body = {"name": "box", "type": "qwen", "base_url": first.url, "max_concurrency": 4}
    path = f"{EXECUTORS}/{root.post(EXECUTORS, body).json()['id']}"
    assert said(alice, early) == "the first"
    eventually(lambda: alice.get(f"/api/v1/models/{MODEL}").json()["available"])

    moved = root.session.put(web + path, json={"base_url": second.url}, timeout=60)
    assert moved.status_code == 200, moved.content
    eventually(lambda: said(alice, asked(alice)) == "the second")

    assert root.session.delete(web + path, timeout=60).status_code == 200
    eventually(lambda: not alice.get(f"/api/v1/models/{MODEL}").json()["available"])
    eventually(lambda: is_blocked(asked(alice)))
    assert root.get(EXECUTORS).json() == []
