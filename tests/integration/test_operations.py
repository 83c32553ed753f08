"""Health, readiness, the front door, and the documents."""

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from openapi_spec_validator import validate

from genpulse import errors, front, health, sql
from genpulse.config import config
from genpulse.errors import Problem
from genpulse.http import openapi
from tasks.models import Chore, OrchestratorLease, Worker
from tests.integration.cast import nobody

pytestmark = pytest.mark.django_db
PUBLIC = {
    "/",
    "/health",
    "/healthz",
    "/ready",
    "/metrics",
    "/docs/errors",
    "/api/auth/login",
    "/api/auth/refresh",
    "/api/agent/docs/agent-protocol",
    "/api/agent/auth/verify",
    "/api/media/v1/sts",
    "/api/media/v1/oss-callback",
    "/api/v1/media/uploads/{upload_id}/content",
    "/assets/{key}",
}


@pytest.fixture(autouse=True)
def storage_in_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "storage_local_path", tmp_path / "assets")


@pytest.fixture
def crew() -> None:
    now = timezone.now()
    OrchestratorLease.objects.update_or_create(
        id=1, defaults={"holder": "box:1", "epoch": 1, "until": now + timedelta(seconds=30)}
    )
    Worker.objects.create(name="w1", queues=["sandbox"], threads=64, free=60, last_seen=now)
    Worker.objects.create(
        name="gone", queues=["sandbox"], threads=64, free=60, last_seen=now - timedelta(hours=1)
    )


def down(*_: Any) -> None:
    raise OperationalError("connection to 10.0.0.7 refused for user genpulse")


class TestHealth:
    def test_alone_the_web_process_is_degraded(self):
        answer = nobody().get("/health")
        assert answer.status_code == 200
        assert answer.json() == {
            "status": "degraded",
            "success": True,
            "data": {"status": "degraded"},
            "message": "",
            "redis": True,
            "database": True,
            "version": "1.0.0",
        }

    def test_with_its_crew_it_is_ok(self, crew):
        assert nobody().get("/health").json()["status"] == "ok"

    def test_in_full(self, crew):
        Chore.objects.create(name="late", every=60, last_run=timezone.now() - timedelta(hours=1))
        Chore.objects.create(name="new", every=60)
        details = nobody().get("/health?full=true").json()["details"]
        (worker,) = details.pop("workers")
        assert details == {
            "database": True,
            "redis": True,
            "storage": True,
            "orchestrator_leader": "box:1",
            "workers_online": 1,
            "queues": {},
            "chores_overdue": ["late"],
        }
        assert worker.pop("last_seen").endswith("Z")
        assert worker == {
            "name": "w1",
            "queues": ["sandbox"],
            "threads": 64,
            "free": 60,
            "draining": False,
        }

    def test_a_leader_whose_lease_ran_out_is_none(self, crew):
        OrchestratorLease.objects.update(until=timezone.now() - timedelta(seconds=1))
        assert nobody().get("/health").json()["status"] == "degraded"

    def test_without_database_it_still_answers(self, monkeypatch):
        monkeypatch.setattr(sql, "fetch", down)
        monkeypatch.setattr(sql, "fetch_dicts", down)
        answer = nobody().get("/health?full=1")
        assert answer.status_code == 200
        assert answer.json()["database"] is False
        assert answer.json()["details"]["workers"] == []

    def test_liveness_touches_nothing(self, django_assert_num_queries):
        with django_assert_num_queries(0):
            assert nobody().get("/healthz").json() == {"status": "ok"}


class TestReady:
    def test_ready(self):
        answer = nobody().get("/ready")
        assert answer.status_code == 200
        assert answer.json() == {
            "ready": True,
            "checks": {"database": True, "redis": True, "migrations": True, "storage": True},
        }

    def test_what_fails_is_named_without_addresses(self, monkeypatch):
        monkeypatch.setitem(health.CHECKS, "database", down)
        answer = nobody().get("/ready")
        assert answer.status_code == 503
        assert answer.json()["ready"] is False
        assert answer.json()["checks"]["database"] == "not reachable (OperationalError)"
        assert b"10.0.0.7" not in answer.content

    def test_missing_migrations(self, monkeypatch):
        monkeypatch.setattr(
            MigrationExecutor, "migration_plan", lambda *_: [("a", False), ("b", False)]
        )
        assert nobody().get("/ready").json()["checks"]["migrations"] == "2 migrations are missing"

    def test_a_storage_that_cannot_be_written(self, monkeypatch, tmp_path):
        (tmp_path / "file").touch()
        monkeypatch.setattr(config, "storage_local_path", tmp_path / "file" / "assets")
        assert nobody().get("/ready").json()["checks"]["storage"].startswith("not reachable")


class TestFrontDoor:
    def test_programs(self):
        assert nobody().get("/", Accept="*/*").json() == {
            "app": "GenPulse",
            "version": "1.0.0",
            "docs": "/docs",
            "health": "/health",
        }

    def test_browsers(self):
        answer = nobody().get("/", Accept="text/html,application/xhtml+xml,*/*;q=0.8")
        assert answer["Content-Type"].startswith("text/html")
        assert b"GenPulse" in answer.content

    def test_every_code_has_its_anchor(self):
        page = nobody().get("/docs/errors").content.decode()
        anchors = set(re.findall(r'id="([a-z_]+)"', page))
        assert anchors == {kind.code for kind in front.kinds(Problem)}
        assert {"validation_failed", "internal_error", "rate_limited"} <= anchors
        titles = [kind().title for kind in front.kinds(errors.ValidationFailed)]
        assert all(title in page.replace("&quot;", '"') for title in titles)

    @pytest.mark.parametrize(
        "path", ["/", "/health", "/healthz", "/ready", "/docs", "/openapi.json"]
    )
    def test_public_paths_take_only_reads(self, path):
        assert nobody().get(path).status_code in {200, 503}
        answer = nobody().post(path)
        assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
        assert "GET" in answer["Allow"]
        assert nobody()("OPTIONS", path).status_code in {200, 204}
        assert nobody()("HEAD", path).status_code in {200, 503}


class TestDocuments:
    @pytest.fixture
    def document(self) -> Any:
        openapi.document.cache_clear()
        return json.loads(nobody().get("/openapi.json").content)

    def test_it_is_valid_openapi_3_1(self, document):
        assert document["openapi"].startswith("3.1")
        validate(document)

    def test_it_names_the_paths_bodies_and_credentials(self, document):
        keys = document["paths"]["/api/v1/keys"]["post"]
        assert keys["security"]
        assert keys["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith(
            "NewKey"
        )
        assert "scope `keys`" in keys["description"]
        assert "/api/auth/login" in document["paths"]
        assert "security" not in document["paths"]["/api/auth/login"]["post"]
        assert "/ready" in document["paths"]
        assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}

    def test_without_a_credential_every_path_but_the_public_ones_answers_401(self, document):
        """The only paths that document no credential are these; the rest is tried."""
        public, wrong = set(), []
        for path, operations in document["paths"].items():
            for method in set(operations) & {"get", "post", "put", "patch", "delete"}:
                if not operations[method].get("security"):
                    public.add(path)
                    continue
                url = re.sub(r"\{\w+\}", "0199aa00-0000-7000-8000-000000000000", path)
                status = nobody()(method.upper(), url).status_code
                wrong += [(method, path, status)] * (status != 401)
        assert wrong == []
        assert public - PUBLIC == set()

    def test_operation_ids_are_unique(self, document):
        ids = [
            operation["operationId"]
            for path in document["paths"].values()
            for operation in path.values()
            if isinstance(operation, dict) and "operationId" in operation
        ]
        assert len(ids) == len(set(ids))
