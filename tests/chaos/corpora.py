"""What needs no faults but a large corpus is proved by the tests that hold it: E41, E42, E46; and E19."""

import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from django.db import connection

from tasks.models import Task
from tests.chaos.rig import Rig

ROOT = Path(__file__).parent.parent.parent
OURS = {
    "DATABASE_URL",
    "REDIS_URL",
    "REDIS_LIVE_URL",
    "GENPULSE_DATA",
    "PYTHONPATH",
    "DJANGO_SETTINGS_MODULE",
}
FORBIDDEN = [
    "tests/integration/media/test_guard.py",
    "tests/integration/media/test_fetch.py",
    "tests/unit/test_addresses.py",
]
BOUND = ["tests/integration/providers/test_credential_binding.py"]
PATHS = [
    "tests/integration/media/test_traversal.py",
    "tests/unit/providers/test_comfy_results.py",
    "tests/unit/providers/test_comfy_workflow.py",
]


def passed(name: str, files: list[str], least: int) -> Callable[[Rig], None]:
    """An experiment: the tests in `files`, on servers of their own, `least` of them or more."""

    def experiment(rig: Rig) -> None:
        command = [sys.executable, "-m", "pytest", "-q", *files]
        clean = {key: value for key, value in os.environ.items() if key not in OURS}
        done = subprocess.run(
            command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout[-3000:]
        [count] = re.findall(r"(\d+) passed", done.stdout)
        rig.hit("tests passed", int(count), least)
        rig.finish(name)

    return experiment


def one_key_at_once(rig: Rig) -> None:
    """E19: fifty callers with one idempotency key: one task, one hold, one answer."""
    who, sandbox = rig.owner(), rig.executor()
    callers, keys = 50, rig.some(40)
    answers: dict[int, set[bytes]] = defaultdict(set)
    held = "SELECT count(*) FROM wallet_hold WHERE task_id = ANY(%s)"

    def post(number: int) -> None:
        body = {
            "model": "sandbox-text",
            "input": {"prompt": "one"},
            "executor": {"only": [sandbox.name]},
            "idempotency_key": f"{rig.seed}-{number}",
        }
        try:
            answer = who.post("/api/v1/tasks", body)
            assert answer.status_code == 201, answer.content
            answers[number].add(answer.json()["id"])
        finally:
            connection.close()

    jobs = [number for number in range(keys) for _ in range(callers)]
    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(post, jobs))
    other = who.post(
        "/api/v1/tasks",
        {"model": "sandbox-text", "input": {"prompt": "two"}, "idempotency_key": f"{rig.seed}-0"},
    )
    assert other.status_code == 422, other.content
    assert all(len(bodies) == 1 for bodies in answers.values())
    ids = [
        str(id_)
        for id_ in Task.objects.filter(account=who.user.account_id).values_list("id", flat=True)
    ]
    assert len(ids) == keys
    assert rig.count(held, ids) == keys
    rig.hit("twins", keys * (callers - 1), keys)
    rig.finish("E19 one key at once")
