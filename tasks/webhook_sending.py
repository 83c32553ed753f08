"""One webhook on its way to its receiver. Nothing here needs the database."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import import_module
from typing import Any
from uuid import UUID

import structlog
from django.conf import settings

from genpulse.errors import UrlNotAllowed
from media import services as media
from tasks import webhook_secrets
from tasks.render import signed

log = structlog.get_logger(__name__)

CALL_SECONDS = 15.0

Remembered = Mapping[str, Any]
Style = Callable[[dict[str, Any], Remembered], dict[str, Any]]
styles: dict[str, Style] = {}  # bodies of other doors, from the task object; filled by dialects


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """A delivery in the hands of a job thread, which has no database."""

    id: UUID
    url: str
    host: str
    style: str
    event_id: str
    body: dict[str, Any]
    secrets: list[str]
    headers: Mapping[str, str]
    remembered: Remembered  # what the task's door keeps, and the vendor's `external_id`


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """`status` None: no answer came. `retry_after` in seconds, as the receiver wishes."""

    status: int | None
    ms: int
    error: str = ""
    retry_after: float = 0.0
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def ok(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


def send(out: Outgoing) -> Outcome:
    """One POST. Redirects and everything but 2xx are failures."""
    started = time.monotonic()
    try:
        body = json.dumps(styled(out), ensure_ascii=False, separators=(",", ":")).encode()
        answer = media.guarded_post(out.url, body, headers_of(out, body), CALL_SECONDS)
    except (UrlNotAllowed, media.FetchError) as problem:
        return Outcome(status=None, ms=_ms(started), error=str(problem)[:300])
    except Exception as problem:
        log.exception("webhook.send", delivery_id=str(out.id))
        return Outcome(status=None, ms=_ms(started), error=type(problem).__name__)
    error = "" if 200 <= answer.status < 300 else f"The receiver answered {answer.status}."
    later = retry_after(answer.headers) if answer.status in {429, 503} else 0.0
    return Outcome(status=answer.status, ms=_ms(started), error=error, retry_after=later)


def _ms(started: float) -> int:
    return round((time.monotonic() - started) * 1000)


def headers_of(out: Outgoing, body: bytes) -> dict[str, str]:
    now = int(time.time())
    signatures = [
        webhook_secrets.signature(secret, out.event_id, now, body) for secret in out.secrets
    ]
    return {
        **out.headers,
        "Content-Type": "application/json",
        "User-Agent": "GenPulse-Webhook/1",
        "webhook-id": out.event_id,
        "webhook-timestamp": str(now),
        "webhook-signature": " ".join(signatures),
    }


def styled(out: Outgoing) -> dict[str, Any]:
    """The body on the wire: ours, or that of the door the task came through."""
    body = {**out.body, "data": with_urls(out.body["data"])}
    if out.style == "native":
        return body
    if out.style not in styles:
        import_module(settings.ROOT_URLCONF)  # doors fill the registry when they are imported
    return styles[out.style](body["data"], out.remembered)


def with_urls(data: dict[str, Any]) -> dict[str, Any]:
    """`data` with fresh URLs for the assets of tasks, of the tasks of a batch, and of asset events."""
    if data.get("object") == "task":
        return {**data, "output": signed(data["output"])}
    if data.get("object") == "batch":
        children = [{**child, "output": signed(child["output"])} for child in data["tasks"]]
        return {**data, "tasks": children}
    asset = data.get("asset")
    if isinstance(asset, dict) and "key" in asset:
        return {**data, "asset": media.with_url(asset)}
    return data


def retry_after(headers: Mapping[str, str]) -> float:
    """Seconds, from a number or an HTTP date; 0 for anything else."""
    text = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    if text.strip().isascii() and text.strip().isdigit():
        return float(text.strip()[:9])
    try:
        return max((parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds(), 0.0)
    except (TypeError, ValueError):
        return 0.0
