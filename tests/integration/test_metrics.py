"""`/metrics` under the names of docs/metrics.md, moved by what really happened."""

import re
from pathlib import Path

import pytest

from genpulse import sql
from genpulse.config import config
from tasks import audit
from tests.integration.cast import caller, nobody
from tests.integration.stack import all_ended, sandbox
from wallet import services as wallet

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"


def scrape() -> dict[str, float]:
    text = nobody().get("/metrics").content.decode()
    found = re.findall(r"^(genpulse_\S+?)(\{.*\})? ([\d.e+-]+)$", text, re.MULTILINE)
    return {name + labels: float(value) for name, labels, value in found}


def test_a_task_moves_the_meters(stack):
    sandbox()
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 10**9, reason="test")
    ended = 'genpulse_tasks_total{family="sandbox",provider="sandbox",source="native",status="succeeded"}'
    before = scrape().get(ended, 0)
    body = {"model": "sandbox-text", "input": {"prompt": "x", "sandbox": {"latency": 0}}}
    all_ended([alice.post("/api/v1/tasks", body).json()["id"] for _ in range(3)])
    after = scrape()
    assert after[ended] == before + 3
    assert after['genpulse_wallet_credits_total{kind="charged"}'] == pytest.approx(0.3)
    assert after['genpulse_executor_slots{executor="sandbox-1",provider="sandbox"}'] == 8
    assert sum(value for name, value in after.items() if "worker_threads" in name) > 0


def test_every_documented_metric_is_there_from_the_first_scrape_on(db):
    sandbox()
    text = nobody().get("/metrics").content.decode()
    exposed = re.findall(r"^# TYPE (genpulse_\w+) ", text, re.MULTILINE)
    assert sorted(exposed) == sorted(set(exposed))
    assert set(exposed) == set(re.findall(r"`(genpulse_\w+)`", DOCUMENT.read_text()))
    shown = scrape()
    for empty in ('tasks_active{family="sandbox",status="verifying"}', "ws_connections"):
        assert shown[f"genpulse_{empty}"] == 0
    assert shown['genpulse_queue_depth{family="coze",priority="low"}'] == 0


@pytest.mark.parametrize(
    ("path", "door", "route"),
    [
        ("/health", "native", "health"),
        ("/api/v1/models", "native", "api/v1/models"),
        ("/nowhere", "native", "unknown"),
        ("/handlers/", "generation", "handlers"),
        ("/v1/tasks", "chat", "v1/tasks"),
        ("/ai/providers", "ai", "ai/providers"),
        ("/api/v1/ai/providers", "ai", "api/v1/ai/providers"),
        ("/api/v1/aid", "native", "unknown"),
        ("/api/tasks/v1", "platform", "api/tasks/v1"),
        ("/api/admin/executors", "platform", "api/admin/executors"),
        ("/openai/v1/models", "openai", "openai/v1/models"),
        ("/openai/v1/nowhere", "openai", "openai/<path:rest>"),
        ("/console", "console", "console"),
        ("/admin/", "admin", "admin/"),
    ],
)
def test_requests_are_counted_by_the_door_they_came_through(db, path, door, route):
    def counted() -> float:
        labels = f'door="{door}",method="GET",route="{route}"'
        found = scrape().items()
        return sum(n for name, n in found if f"http_requests_total{{{labels}" in name)

    before = counted()
    nobody().get(path)
    assert counted() == before + 1


def test_an_audit_moves_its_meter(db):
    audit.report()
    assert scrape()['genpulse_audit_violations{invariant="holds"}'] == 0
    sql.execute("ALTER TABLE tasks_task DISABLE TRIGGER tasks_terminal_has_no_open_hold")
    audit.report()
    assert scrape()['genpulse_audit_violations{invariant="holds"}'] == 1


def test_production_asks_who_scrapes(db, monkeypatch):
    monkeypatch.setattr(config, "environment", "production")
    monkeypatch.setattr(config, "metrics_token", "m" * 40)
    assert nobody().get("/metrics").status_code == 401
    assert nobody().get("/metrics", Authorization="Bearer " + "m" * 40).status_code == 200
    assert caller("bob").get("/metrics").status_code == 403
    assert caller("root", "admin").get("/metrics").status_code == 200
