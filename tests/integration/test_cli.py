"""The command line, command by command, on the test database."""

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner, Result

from genpulse.auth import keys, services
from genpulse.auth.models import ApiKey
from genpulse.cli import bootstrap, client, demo, doctor, terminal
from genpulse.cli.app import app, read_dotenv
from genpulse.cli.instance import Instance
from genpulse.config import config
from genpulse.money import MICRO
from wallet import services as wallet

pytestmark = pytest.mark.django_db

Run = Callable[..., Result]


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What commands do to the environment ends with the test."""
    for name in ("GENPULSE_DATA", "DATABASE_URL", "PORT", "ENVIRONMENT"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    return monkeypatch


@pytest.fixture
def genpulse(tmp_path: Path, environment: pytest.MonkeyPatch) -> Run:
    def run(*words: str) -> Result:
        return CliRunner().invoke(app, [*words, "--data", str(tmp_path)])

    return run


def said(result: Result) -> Any:
    """The one line of JSON on stdout."""
    assert result.exit_code == 0, result.output
    (line,) = result.stdout.splitlines()
    return json.loads(line)


def test_key_create_makes_the_user_and_prints_a_key_that_works(genpulse: Run) -> None:
    told = said(genpulse("key", "create", "--user", "alice", "--json"))
    assert told["user"] == "alice"
    assert told["scopes"] == ["media", "tasks", "wallet:read", "webhooks"]
    row = ApiKey.objects.get(pk=told["id"])
    assert row.user.name == "alice"
    assert row.expires_at is None
    assert keys.matches(told["key"], row.digest)


def test_key_create_takes_scopes_name_and_expiry(genpulse: Run) -> None:
    words = ["--scopes", "act_as, tasks", "--name", "shop", "--expires", "30d", "--json"]
    told = said(genpulse("key", "create", "--user", "shop", *words))
    row = ApiKey.objects.get(pk=told["id"])
    assert row.scopes == told["scopes"] == ["act_as", "tasks"]
    assert row.name == "shop"
    assert row.expires_at is not None
    assert round((row.expires_at - row.created_at).total_seconds() / 86400) == 30


def test_without_json_the_key_alone_is_printed(genpulse: Run) -> None:
    assert keys.lookup_of(genpulse("key", "create", "--user", "alice").stdout.strip())


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["key", "create", "--user", "a b"], "user:"),
        (["key", "create", "--user", "a", "--scopes", "tasks,fly"], "unknown scopes: fly"),
        (["key", "create", "--user", "a", "--expires", "soon"], "--expires: want seconds"),
        (["key", "create", "--user", "a", "--expires", "none"], "--expires: want a time"),
        (["deposit", "a", "much"], "CREDITS: not a decimal number"),
        (["deposit", "a", "0"], "CREDITS: want more than 0"),
        (["deposit", "a", "0.0000001"], "CREDITS: more than six decimals"),
        (["key", "create"], "--user"),
    ],
)
def test_wrong_usage_exits_2_and_changes_nothing(
    genpulse: Run, words: list[str], complaint: str
) -> None:
    result = genpulse(*words)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert services.find_user("a") is None


def test_deposits_add_up_and_a_reference_counts_once(genpulse: Run) -> None:
    first = said(genpulse("deposit", "bob", "12.5", "--reference", "r-1", "--json"))
    again = said(genpulse("deposit", "bob", "12.5", "--reference", "r-1", "--json"))
    more = said(genpulse("deposit", "bob", "1", "--json"))
    assert first == {"user": "bob", "deposited": "12.5", "available": "12.5", "created": True}
    assert again == {"user": "bob", "deposited": "12.5", "available": "12.5", "created": False}
    assert more["available"] == "13.5"
    assert "bob: 2 deposited, 15.5 available" in genpulse("deposit", "bob", "2").stdout


def test_audit_prints_each_invariant_and_fails_on_a_breach(
    genpulse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = said(genpulse("audit", "--json"))["invariants"]
    assert {"I1", "I10"} <= {check["name"] for check in checks}
    from tasks import audit
    from wallet.audit import Check

    monkeypatch.setattr(audit, "run", lambda: [Check("I1", "sums are zero", 2, ["j-1", "j-2"])])
    result = genpulse("audit")
    assert result.exit_code == 1
    assert "2  I1: sums are zero  (j-1, j-2)" in result.stdout


def test_nothing_runs(genpulse: Run, tmp_path: Path) -> None:
    status = genpulse("status", "--json")
    assert status.exit_code == 3
    assert json.loads(status.stdout) == {
        "running": False,
        "base_url": None,
        "processes": [],
        "queues": [],
    }
    assert genpulse("status").stdout == "not running\n"
    assert genpulse("demo").exit_code == 3
    assert genpulse("down").exit_code == 0
    assert "nothing runs" in genpulse("down").stderr


def test_status_shows_processes_queues_and_executors(
    genpulse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue: dict[str, Any] = {"family": "sd", "state": "paused", "waiting": {"total": 7}}
    queue |= {"running": 1, "awaiting": 2, "blocked": 0}
    report = {
        "running": True,
        "base_url": "http://127.0.0.1:8000",
        "processes": [{"name": "web", "pid": None, "state": "backoff", "restarts": 3}],
        "queues": [queue],
        "executors": [{"name": "sandbox-1", "provider": "sandbox", "state": "active"}],
    }
    monkeypatch.setattr("genpulse.cli.control._report", lambda _instance: report)
    lines = [line.split() for line in genpulse("status").stdout.splitlines()]
    assert lines == [
        ["http://127.0.0.1:8000"],
        ["name", "state", "pid", "restarts"],
        ["web", "backoff", "3"],
        ["family", "state", "waiting", "running", "awaiting", "blocked"],
        ["sd", "paused", "7", "1", "2", "0"],
        ["name", "provider", "state"],
        ["sandbox-1", "sandbox", "active"],
    ]


def test_purge_deletes_only_folders_of_instances(genpulse: Run, tmp_path: Path) -> None:
    (tmp_path / "precious").touch()
    assert genpulse("down", "--purge").exit_code == 1
    assert (tmp_path / "precious").exists()
    Instance(tmp_path).write_state({"base_url": "http://127.0.0.1:1"})
    assert genpulse("down", "--purge").exit_code == 0
    assert not tmp_path.exists()


def test_commands_without_any_database_say_so(
    genpulse: Run, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("DATABASE_URL", "")
    result = genpulse("audit")
    assert result.exit_code == 3
    assert "no DATABASE_URL" in result.stderr


def test_logs_shows_the_end_of_the_log_asked_for(genpulse: Run, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "web.log").write_text("one\ntwo\nthree\n")
    assert genpulse("logs", "web", "-n", "2").stdout == "two\nthree\n"
    result = genpulse("logs", "wbe")
    assert result.exit_code == 1
    assert "there are: web" in result.stderr


def test_init_db_reset_asks_and_is_refused_in_production(
    genpulse: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert genpulse("init-db", "--reset").exit_code == 1  # no answer is a no
    monkeypatch.setattr(config, "environment", "production")
    result = genpulse("init-db", "--reset", "--yes")
    assert result.exit_code == 1
    assert "refused in production" in result.stderr


def test_a_process_refused_by_its_environment_says_every_reason(
    genpulse: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from genpulse.cli import processes
    from genpulse.refusals import ConfigError

    def refuse(_name: str) -> None:
        raise ConfigError(["ONE: wrong", "TWO: missing"])

    monkeypatch.setattr(processes, "_prepare", refuse)
    result = genpulse("api")
    assert result.exit_code == 1
    assert result.stderr == "genpulse: ONE: wrong\ngenpulse: TWO: missing\n"


def test_dotenv_is_read_and_the_real_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text(
        "GENPULSE_TEST_A=file\nGENPULSE_TEST_B='quoted # text'\n# comment\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENPULSE_TEST_A", "real")
    monkeypatch.setenv("GENPULSE_TEST_B", "")
    monkeypatch.delenv("GENPULSE_TEST_B")
    read_dotenv()
    assert os.environ.pop("GENPULSE_TEST_B") == "quoted # text"
    assert os.environ["GENPULSE_TEST_A"] == "real"


# The first start


def test_the_first_start_makes_an_admin_a_key_and_gives_credits_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genpulse.schema.migrate", lambda: 0)
    instance = Instance(tmp_path)
    bootstrap.bring_up_to_date(instance)
    key = instance.admin_key
    bootstrap.bring_up_to_date(instance)
    assert instance.admin_key == key
    row = ApiKey.objects.get(lookup=keys.lookup_of(key))
    assert (row.user.name, row.user.role, row.scopes) == ("admin", "admin", ["admin"])
    assert instance.admin_key_file.stat().st_mode & 0o777 == 0o600
    assert wallet.balance(row.user.account_id).available == 1000 * MICRO


def test_a_key_of_another_database_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genpulse.schema.migrate", lambda: 0)
    instance = Instance(tmp_path)
    instance.admin_key_file.write_text(keys.NewKey.generate().text)
    bootstrap.bring_up_to_date(instance)
    assert ApiKey.objects.filter(lookup=keys.lookup_of(instance.admin_key)).exists()


def test_production_gives_no_credits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genpulse.schema.migrate", lambda: 0)
    monkeypatch.setattr(config, "environment", "production")
    bootstrap.bring_up_to_date(Instance(tmp_path))
    admin = services.find_user("admin")
    assert admin is not None
    assert wallet.balance(admin.account_id).available == 0


# The demo, against a stand-in for the API


class Api(BaseHTTPRequestHandler):
    """A batch of two that ends one look later."""

    seen: ClassVar[list[tuple[str, str, Any]]] = []
    end = "succeeded"

    def do_POST(self) -> None:
        self.answer(self.batch("queued", 0))

    def do_GET(self) -> None:
        self.answer(self.batch(self.end, 100))

    def batch(self, status: str, progress: int) -> dict[str, Any]:
        tasks = [
            {"id": str(number), "model": "sandbox-text", "status": status, "progress": progress}
            for number in range(2)
        ]
        return {"id": "b-1", "terminal": progress == 100, "tasks": tasks}

    def answer(self, body: dict[str, Any]) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        sent = json.loads(self.rfile.read(length) or "null")
        self.seen.append((f"{self.command} {self.path}", self.headers["X-GenPulse-User"], sent))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def served(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[Instance]:
    """An instance whose API is the stand-in."""
    Api.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        instance = Instance(tmp_path)
        instance.write_state({"base_url": f"http://127.0.0.1:{server.server_port}"})
        yield instance
        server.shutdown()


def test_the_demo_runs_a_batch_as_user_demo_with_credits_of_its_own(served: Instance) -> None:
    demo.first(served)
    assert [(what, user) for what, user, _ in Api.seen] == [
        ("POST /api/v1/batches", "demo"),
        ("GET /api/v1/batches/b-1", "demo"),
    ]
    assert {item["model"] for item in Api.seen[0][2]["items"]} == {
        "sandbox-text",
        "sandbox-image",
        "sandbox-audio",
        "sandbox-video",
    }
    user = services.find_user("demo")
    assert user is not None
    assert wallet.balance(user.account_id).available == demo.CREDITS * MICRO
    assert served.demo_mark.exists()


def test_a_demo_that_fails_is_shown_again_next_time(
    served: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Api, "end", "failed")
    demo.first(served)
    assert not served.demo_mark.exists()


def test_a_demo_without_a_service_does_not_stop_up(
    tmp_path: Path, environment: pytest.MonkeyPatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(terminal.err, "print", lambda text, **_: told.append(text))
    instance = Instance(tmp_path)
    instance.write_state({"base_url": "http://127.0.0.1:1"})
    demo.first(instance)
    assert "the demo could not run" in told[0]


def test_the_client_tells_refusals_from_silence(
    served: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Api) -> None:
        self.send_response(422)
        self.end_headers()
        self.wfile.write(b'{"detail": "no such model"}')

    monkeypatch.setattr(Api, "do_GET", refuse)
    with pytest.raises(client.ApiError, match="no such model") as caught:
        client.Client(served.base_url).get("/x")
    assert caught.value.status == 422
    with pytest.raises(OSError, match="refused"):
        client.Client("http://127.0.0.1:1").get("/x")
    assert not client.is_ready(served.base_url)


# doctor


def levels(instance: Instance) -> dict[str, str]:
    return {finding.check: finding.level for finding in doctor.examine(instance)}


def test_doctor_finds_a_healthy_machine_without_an_instance(tmp_path: Path) -> None:
    assert levels(Instance(tmp_path)) == {
        "python": "ok",
        "port": "ok",
        "disk": "ok",
        "database": "ok",
        "redis": "ok",
        "storage": "ok",
        "clock": "ok",
        "processes": "warn",
    }


def test_doctor_says_what_to_do_and_fails(
    genpulse: Run, monkeypatch: pytest.MonkeyPatch, environment: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genpulse.schema.state", lambda: "older")
    monkeypatch.setattr("genpulse.cli.doctor.is_free", lambda _port: False)
    monkeypatch.setattr(config, "redis_url", "redis://127.0.0.1:1/0")
    result = genpulse("doctor")
    assert result.exit_code == 1
    assert re.search(r"warn port: 8000 is taken  -> choose another with --port", result.stdout)
    assert "fail database: migrations are missing  -> run `genpulse init-db`" in result.stdout
    assert "fail redis: ConnectionError" in result.stdout


def test_doctor_on_a_machine_where_nothing_is_set_up_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "database_url", "")
    monkeypatch.setattr(config, "redis_url", "")
    found = levels(Instance(tmp_path))
    assert [found["database"], found["redis"], found["clock"]] == ["warn", "warn", "warn"]
    assert "fail" not in found.values()


def test_doctor_in_json(genpulse: Run) -> None:
    checks = said(genpulse("doctor", "--json"))["checks"]
    assert checks[0].keys() == {"check", "level", "message", "advice"}


def test_an_error_without_words_is_named_by_its_type() -> None:
    assert terminal.first_line(ValueError()) == "ValueError"
    assert terminal.first_line(ValueError("one\ntwo")) == "one"
