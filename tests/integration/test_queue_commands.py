"""The commands of operators: queues, purge, drain, resume, reconcile against the real API, and bench end to end."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from genpulse.asgi import application
from genpulse.cli import bench, queues
from genpulse.cli.app import app
from genpulse.cli.client import ApiError
from genpulse.cli.instance import Instance
from tasks import audit, insight
from tasks.models import Attempt, Task
from tests.integration.cast import caller
from tests.integration.floor import Floor
from tests.integration.served import served
from wallet import services as wallet


class InProcess:
    """The client of the commands, without a socket."""

    def __init__(self, *_: Any) -> None:
        self.root = caller("root", "admin")

    def get(self, path: str, **_: Any) -> Any:
        return self.answer(self.root.get(path))

    def post(self, path: str, body: Any, **_: Any) -> Any:
        return self.answer(self.root.post(path, body))

    @staticmethod
    def answer(response: Any) -> Any:
        insight.forget()
        if response.status_code >= 400:
            raise ApiError(response.status_code, response.json()["detail"])
        return response.json()


@pytest.fixture
def genpulse(db, monkeypatch, tmp_path):
    monkeypatch.setattr(queues, "Client", InProcess)
    monkeypatch.setattr(queues, "running", Instance)
    monkeypatch.setattr(queues, "LOOK_EVERY", 0.01)
    return lambda *words: CliRunner().invoke(app, [*words, "--data", str(tmp_path)])


@pytest.fixture
def floor(db):
    floor = Floor()
    floor.executor("gpu-1", 2)
    floor.worker()
    return floor


def said(result, code=0):
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_queues_as_a_table_and_as_json(genpulse, floor):
    floor.queue("alice", 3)
    shown = {queue["family"]: queue for queue in said(genpulse("queues", "--json"))["items"]}
    assert shown["sandbox"]["waiting"]["total"] == 3
    table = genpulse("queues").stdout
    assert "sandbox" in table
    assert "family" in table


def test_purge_asks_first(genpulse, floor):
    floor.queue("alice", 3)
    refused = genpulse("purge", "sandbox")
    assert [refused.exit_code, "say --yes" in refused.stderr] == [2, True]
    assert said(genpulse("purge", "sandbox", "--yes", "--json")) == {"canceled": 3}
    assert genpulse("purge", "nonsense", "--yes").exit_code == 2


def test_drain_waits_until_nothing_is_active(genpulse, floor):
    floor.queue("alice", 1)
    floor.admit()
    late = genpulse("drain", "sandbox", "--wait", "0.05")
    assert [late.exit_code, late.stderr] == [1, "still active: sandbox\n"]
    floor.finish()
    done = said(genpulse("drain", "--wait", "5", "--json"))
    assert done["drained"]
    assert {queue["state"] for queue in done["items"]} == {"drained"}
    assert genpulse("resume").stdout == "active: every queue\n"
    assert said(genpulse("resume", "sandbox", "--json"))["items"][0]["state"] == "active"


def test_reconcile_lists_and_resolves_what_is_in_doubt(genpulse, floor):
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 10**9, reason="test")
    good = {"model": "sandbox-text", "input": {"prompt": "hi"}}
    doubtful, other = (alice.post("/api/v1/tasks", good).json()["id"] for _ in range(2))
    assert genpulse("reconcile").stdout == "nothing is in doubt\n"
    floor.admit()
    Task.objects.filter(pk=doubtful).update(status="verifying")
    Attempt.objects.filter(task_id=other).update(possible_cost=True)
    listed = genpulse("reconcile").stdout
    assert f"verifying {doubtful}" in listed
    assert f"may have cost: {other} attempt 1 on gpu-1" in listed
    assert said(genpulse("reconcile", "--json")) == {
        "checked": 2,
        "resolved": [],
        "unresolved": [doubtful],
    }
    assert said(genpulse("reconcile", "--older", "1h", "--json"))["checked"] == 0
    ending = ["reconcile", "--resolve", doubtful, "failed"]
    assert genpulse(*ending).exit_code == 2
    assert genpulse("reconcile", "--older", "soon").exit_code == 2
    done = said(genpulse(*ending, "--reason", "the vendor says no", "--json"))
    assert done["resolved"] == [{"task_id": doubtful, "outcome": "failed"}]
    assert done["unresolved"] == []
    assert genpulse(*ending, "--reason", "again").exit_code == 2
    assert wallet.balance(alice.user.account_id).held == 100_000
    assert not audit.breaches()


def test_bench_runs_on_an_executor_of_its_own(stack):
    with served(application) as url, bench.prepared(20) as key:
        report = bench.play(url, key, tasks=20, concurrency=4)
    assert [report["submitted"], report["succeeded"], report["failed"]] == [20, 20, 0]
    assert report.keys() == {
        "submitted",
        "succeeded",
        "failed",
        "seconds",
        "per_second",
        "submit_p50_ms",
        "submit_p95_ms",
        "submit_p99_ms",
        "wait_p95_ms",
    }
    assert set(Attempt.objects.values_list("executor", flat=True)) == {"bench"}
    assert not audit.breaches()
