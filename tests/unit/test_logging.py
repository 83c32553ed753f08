"""Logs: JSON lines of a fixed form, without secrets, in files that many processes share."""

import ast
import json
import logging
import os
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TypeGuard

import pytest
import structlog

from genpulse import logging as genpulse_logging
from genpulse.config import config
from genpulse.logging.files import SharedLogFile, day
from genpulse.logging.redaction import HIDDEN, KNOWN_FIELDS, redact, scrub
from genpulse.refusals import ConfigError


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Configures logging as the process `test`; a call returns what app.log has, parsed."""
    monkeypatch.setattr(config, "log_dir", tmp_path)
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    genpulse_logging.configure("test")
    yield lambda: [json.loads(line) for line in (tmp_path / "app.log").read_text().splitlines()]
    logging.captureWarnings(capture=False)
    for handler in root.handlers:
        if isinstance(handler, SharedLogFile):
            handler.close()
    root.handlers[:], root.level = before, level
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def test_a_line_has_time_level_logger_event_and_what_is_bound(lines):
    structlog.contextvars.bind_contextvars(request_id="r-1")
    structlog.get_logger("tasks.runner").warning("lease ran out", task_id="t-1", attempt=3)
    (line,) = lines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", line.pop("time"))
    assert line == {
        "level": "WARNING",
        "logger": "tasks.runner",
        "event": "lease ran out",
        "request_id": "r-1",
        "task_id": "t-1",
        "attempt": 3,
        "process": "test",
    }


def test_other_peoples_loggers_come_out_the_same(lines):
    logging.getLogger("django.db").error("no %s", "connection")
    (line,) = lines()
    assert (line["level"], line["logger"], line["event"]) == ("ERROR", "django.db", "no connection")


def test_an_exception_is_told_by_type_and_place_without_its_details(lines):
    def quote_the_row():
        raise ValueError("bad row\nDETAIL: Failing row contains (a secret prompt)")

    try:
        quote_the_row()
    except ValueError:
        structlog.get_logger("x").exception("cannot store")
    (line,) = lines()
    assert line["level"] == "ERROR"
    assert line["error"] == "ValueError: bad row"
    assert line["exception"][-1].endswith(" quote_the_row")
    assert "prompt" not in json.dumps(line)


def test_debug_is_off_by_default(lines):
    structlog.get_logger("x").debug("noise")
    logging.getLogger("x").debug("noise")
    logging.getLogger("urllib3").info("noise")
    assert lines() == []


def test_errors_go_to_sentry_without_bodies_values_and_people(lines, monkeypatch):
    told = []
    sdk = SimpleNamespace(init=lambda *args, **options: told.append((args, options)))
    monkeypatch.setitem(sys.modules, "sentry_sdk", sdk)
    monkeypatch.setattr(config, "sentry_dsn", "https://key@sentry.example/1")
    genpulse_logging._report_errors()
    assert told == [
        (
            ("https://key@sentry.example/1",),
            {
                "include_local_variables": False,
                "max_request_body_size": "never",
                "send_default_pii": False,
            },
        )
    ]


def test_sentry_without_its_package_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    monkeypatch.setattr(config, "sentry_dsn", "https://key@sentry.example/1")
    with pytest.raises(ConfigError, match="install package sentry-sdk"):
        genpulse_logging._report_errors()


def test_unknown_fields_keep_only_their_name(lines):
    structlog.get_logger("x").info("submitted", prompt="a cat", task_id="t")
    (line,) = lines()
    assert (line["prompt"], line["task_id"]) == (HIDDEN, "t")


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer abc.def-ghi",
        "key gp_live_0123456789abcdefghijABCDEFGHIJ0123456789abcdefghijABCDEFGHIJ0123456 sent",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl refused",
        "postgresql://genpulse:hunter2@db:5432/genpulse",
        "redis://:hunter2@127.0.0.1:6379/0",
        "GET /x?token=hunter2&size=3",
        "WebSocket /ws/events?ticket=hunter2 [accepted]",
        "GET /assets/a.png?exp=1&sig=hunter2",
        "vendor said sk-abcdefghijklmnop0123456789",
        "https://s3/x?X-Amz-Signature=hunter2",
        "input data:image/png;base64,aHVudGVyMg==",
    ],
)
def test_what_looks_like_a_credential_is_cut_out(text):
    shown = scrub(text)
    assert HIDDEN in shown
    for secret in ("hunter2", "aHVudGVyMg", "abc.def", "eyJ", "sk-abc", "gp_live_0"):
        assert secret not in shown


def test_every_field_our_code_logs_is_a_known_one():
    """Otherwise its value would never be seen; a new name is added to KNOWN_FIELDS or spelt as an old one."""
    root = Path(__file__).resolve().parents[2]
    rooms = ("genpulse", "tasks", "providers", "wallet", "media", "admin_integrations")
    unknown = set()
    for path in (path for room in rooms for path in (root / room).rglob("*.py")):
        for call in (node for node in ast.walk(ast.parse(path.read_text())) if logs(node)):
            unknown |= {word.arg for word in call.keywords} - KNOWN_FIELDS - {"exc_info"}
    assert unknown == set()


def logs(node: ast.AST) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "log"
        and node.func.attr in {"debug", "info", "warning", "error", "exception"}
    )


def test_lists_and_exceptions_are_scrubbed_too():
    fields = redact(
        None, "", {"error": ValueError("x?key=hunter2\nmore"), "name": ["a", "b?key=hunter2"]}
    )
    assert fields == {"error": f"x?key={HIDDEN}", "name": ["a", f"b?key={HIDDEN}"]}


def handler(tmp_path, **options):
    made = SharedLogFile(tmp_path / "app.log", **{"keep_days": 7, **options})
    made.setFormatter(logging.Formatter("%(message)s"))
    return made


def say(made, text):
    made.handle(logging.makeLogRecord({"msg": text}))


def test_a_full_file_is_rotated_and_every_writer_follows(tmp_path):
    one, two = handler(tmp_path, max_bytes=10), handler(tmp_path, max_bytes=10)
    say(one, "0123456789")
    say(two, "second")
    say(one, "third")
    archive = tmp_path / f"app-{day(time.time())}.1.log"
    assert archive.read_text() == "0123456789\n"
    assert (tmp_path / "app.log").read_text() == "second\nthird\n"
    one.close()
    two.close()


def test_a_new_day_begins_a_new_file_and_old_ones_are_forgotten(tmp_path):
    log = handler(tmp_path)
    say(log, "yesterday")
    yesterday = time.time() - 86400
    os.utime(tmp_path / "app.log", (yesterday, yesterday))
    forgotten = tmp_path / "app-2020-01-01.1.log"
    forgotten.touch()
    os.utime(forgotten, (0, 0))
    say(log, "today")
    assert (tmp_path / f"app-{day(yesterday)}.1.log").read_text() == "yesterday\n"
    assert (tmp_path / "app.log").read_text() == "today\n"
    assert not forgotten.exists()
    log.close()


def test_a_deleted_file_is_made_again(tmp_path):
    log = handler(tmp_path)
    (tmp_path / "app.log").unlink()
    say(log, "again")
    assert (tmp_path / "app.log").read_text() == "again\n"
    log.close()


def test_a_log_that_cannot_be_written_does_not_stop_the_work(tmp_path, capsys):
    log = handler(tmp_path)
    log.file.close()
    say(log, "lost")
    assert "Logging error" in capsys.readouterr().err
    log.file = log._open()
    log.close()
