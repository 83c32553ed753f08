"""Errors go to `sys_logs` when that is asked for; whoever logs neither waits nor fails."""

import logging
from types import SimpleNamespace

import pytest
import structlog
from django.db import connection
from psycopg.conninfo import make_conninfo

from genpulse import logging as genpulse_logging
from genpulse.config import config
from genpulse.embedded import free_port
from genpulse.events.models import SysLog
from genpulse.logging.files import SharedLogFile
from genpulse.logging.rows import MOST_WAITING, ErrorRows
from tasks import keeping
from tests.integration.stack import eventually

pytestmark = pytest.mark.django_db(transaction=True)


def address() -> str:
    given = connection.settings_dict
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD"}
    known = {name: given[key] for name, key in names.items() if given[key]}
    return make_conninfo(**known, dbname=given["NAME"])


@pytest.fixture
def configured(tmp_path, monkeypatch):
    """Configures the logs of this process as given; a call returns the handler for rows, if any."""
    monkeypatch.setattr(config, "log_dir", tmp_path)
    monkeypatch.setattr(config, "database_url", address())
    root = logging.getLogger()
    before, level = root.handlers[:], root.level

    def configure(*, rows: bool) -> list[ErrorRows]:
        monkeypatch.setattr(config, "enable_db_log", rows)
        genpulse_logging.configure("web")
        return [one for one in root.handlers if isinstance(one, ErrorRows)]

    yield configure
    logging.captureWarnings(capture=False)
    for handler in root.handlers:
        if isinstance(handler, SharedLogFile | ErrorRows):
            handler.close()
    root.handlers[:], root.level = before, level
    structlog.reset_defaults()


def test_errors_become_rows(configured):
    configured(rows=True)
    log = structlog.get_logger("tasks.runner")
    log.warning("only a warning")

    def quote_the_row():
        raise ValueError("bad row\nDETAIL: (a secret prompt)")

    try:
        quote_the_row()
    except ValueError:
        log.exception("cannot store", task_id="t-1", prompt="a secret prompt")
    logging.getLogger("other").critical("no %s for gp_live_%s", "key", "a" * 57)
    eventually(lambda: SysLog.objects.count() == 2)
    first, second = SysLog.objects.order_by("id")
    assert (first.level, first.source, first.task_id, first.message) == (
        "ERROR",
        "web/tasks.runner",
        "t-1",
        "cannot store: ValueError: bad row",
    )
    assert first.stack_trace is not None
    assert "quote_the_row" in first.stack_trace
    assert (second.level, second.task_id, second.stack_trace) == ("CRITICAL", None, None)
    assert second.message == "no key for [redacted]"
    assert "secret" not in "".join(str(vars(row)) for row in (first, second))


def test_off_means_off(configured):
    assert configured(rows=False) == []
    structlog.get_logger("x").error("nobody keeps this in a table")
    assert not SysLog.objects.exists()


def line(number: int) -> logging.LogRecord:
    return logging.LogRecord("x", logging.ERROR, "", 0, f"error {number}", None, None)


def as_json(handler: ErrorRows) -> ErrorRows:
    text = '{{"level": "ERROR", "logger": "x", "event": "{}"}}'
    handler.setFormatter(SimpleNamespace(format=lambda record: text.format(record.getMessage())))  # type: ignore[arg-type]
    return handler


def test_a_database_that_is_away_costs_nothing_but_old_lines():
    handler = as_json(ErrorRows(f"postgresql://u@127.0.0.1:{free_port()}/x", pause=0.05))
    for number in range(3 * MOST_WAITING):
        handler.handle(line(number))
    handler.url = address()
    eventually(lambda: SysLog.objects.filter(message=f"error {3 * MOST_WAITING - 1}").exists())
    assert SysLog.objects.count() <= MOST_WAITING + 200
    handler.close()


def test_what_no_table_takes_is_dropped_and_the_next_line_stored():
    handler = as_json(ErrorRows(address()))
    odd = line(1)
    odd.msg = "a\\u0000b\\ud800c"
    for record in (odd, line(2)):
        handler.handle(record)
    eventually(lambda: SysLog.objects.count() == 2)
    assert SysLog.objects.earliest("id").message == "ab?c"
    handler.close()


def test_a_forked_process_gets_a_thread_of_its_own():
    handler = as_json(ErrorRows(address()))
    handler.handle(line(1))
    eventually(SysLog.objects.exists)
    first, handler._pid = handler._thread, 0
    handler.handle(line(2))
    eventually(lambda: SysLog.objects.filter(message="error 2").exists())
    assert handler._thread is not first
    handler.close()


def test_they_are_kept_as_long_as_log_files():
    SysLog.objects.create(level="ERROR", source="x", message="new")
    SysLog.objects.create(
        level="ERROR", source="x", message="old", created_at="2020-01-01T00:00:00Z"
    )
    assert keeping.drop_old_logs() == 1
    assert SysLog.objects.get().message == "new"
