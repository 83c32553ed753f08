"""Logs: one JSON object a line, to stdout and `<LOG_DIR>/app.log`.

    log = structlog.get_logger(__name__)
    log.warning("lease ran out", task_id=task.id, attempt=3)

`time, level, logger, event` are always there; `request_id, task_id, attempt` when they are known
(`structlog.contextvars.bind_contextvars`). See genpulse.logging.redaction for what is never shown.
With ENABLE_DB_LOG errors go to table `sys_logs` too (genpulse.logging.rows).
"""

import importlib
import logging
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from genpulse.config import config
from genpulse.logging.files import SharedLogFile
from genpulse.logging.redaction import first_line, redact
from genpulse.logging.rows import ErrorRows
from genpulse.refusals import ConfigError

LOUDEST = {  # below this they only repeat what we know
    **dict.fromkeys(("asyncio", "botocore", "boto3", "oss2", "urllib3", "PIL"), "WARNING"),
    **dict.fromkeys(("kombu", "amqp", "websockets", "celery.redirected"), "WARNING"),
}
DETAILS = {  # or say something for each request and each task
    **dict.fromkeys(("celery.worker.strategy", "celery.app.trace"), "WARNING"),
    "django.request": "ERROR",
}
ORDER = ("time", "level", "logger", "event", "request_id", "task_id", "attempt")

ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def configure(process: str) -> None:
    """Send every log record of this process, whoever writes it, through one format. Call it once."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        _level,
        structlog.processors.TimeStamper("iso", utc=True, key="time"),
        _exception,
        _named(process),
        redact,
        _in_order,
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    _route(formatter)
    _report_errors()


def _report_errors() -> None:
    """Errors go to Sentry too; bodies, values and people do not. Raises ConfigError."""
    if not config.sentry_dsn:
        return
    try:
        sentry = importlib.import_module("sentry_sdk")
    except ModuleNotFoundError:
        raise ConfigError(["SENTRY_DSN: install package sentry-sdk to use it"]) from None
    sentry.init(
        config.sentry_dsn,
        include_local_variables=False,
        max_request_body_size="never",
        send_default_pii=False,
    )


def _route(formatter: logging.Formatter) -> None:
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    handlers.append(SharedLogFile(_folder() / "app.log", keep_days=config.log_keep_days))
    if config.enable_db_log and config.database_url:
        handlers.append(ErrorRows(config.database_url))
    for handler in handlers:
        handler.setFormatter(formatter)
    logging.basicConfig(handlers=handlers, level=config.log_level, force=True)
    logging.captureWarnings(capture=True)
    limits = LOUDEST if config.enable_detailed_logging else LOUDEST | DETAILS
    for name, level in limits.items():
        logging.getLogger(name).setLevel(level)


def _folder() -> Path:
    return config.log_dir or config.data_dir / "logs"


def _level(_logger: Any, method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    record = fields.get("_record")
    name = (
        record.levelname
        if record
        else {"exception": "ERROR", "warn": "WARNING"}.get(method, method)
    )
    return {**fields, "level": name.upper()}


def _exception(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Type, first line and places of an exception; neither values nor source lines."""
    error = _error_of(fields.pop("exc_info", None))
    if error is None:
        return fields
    kind, value, trace = error
    places = [
        f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)
    ]
    fields["error"] = f"{kind.__name__}: {first_line(value)}"
    fields["exception"] = places[-20:]
    return fields


def _error_of(info: Any) -> ErrorInfo | None:
    if isinstance(info, BaseException):
        return type(info), info, info.__traceback__
    if info is True:
        info = sys.exc_info()
    return info if isinstance(info, tuple) and info[0] else None


def _named(process: str) -> Any:
    def add(
        _logger: Any, _method: str, fields: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        return {"process": process, **fields}

    return add


def _in_order(
    _logger: Any, _method: str, fields: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    return {**{name: fields[name] for name in ORDER if name in fields}, **fields}
