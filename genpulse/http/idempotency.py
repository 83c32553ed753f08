"""At most one object for each Idempotency-Key.

The key's row is inserted in the transaction of the object. A twin blocks on the unique index until the
first one commits (and then gets its answer) or rolls back (and then creates). Kept is the answer
without every `input`, `output` and `url`: those come from the object again, so that no signed URL and
no purged content outlives it here.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import zip_longest
from typing import Any
from uuid import UUID

from django.db import OperationalError, transaction
from django.db.models.functions import Now
from psycopg.errors import LockNotAvailable, QueryCanceled
from psycopg.types.json import Jsonb

from genpulse import sql
from genpulse.errors import (
    IdempotencyInProgress,
    IdempotencyKeyReused,
    MalformedHeader,
    ValidationFailed,
)
from genpulse.http.models import Idempotency

KEPT_BYTES = 64 << 10
KEPT_FOR = timedelta(hours=24)
RENEWED = frozenset({"input", "output", "url", "purged"})

# The patience for a twin must not become that of the statements of `create`: RETURNING runs after the
# wait and puts the session's own lock_timeout back.
CLAIM = """
WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', '9500ms', true))
INSERT INTO http_idempotency (owner, route, key, fingerprint, status, headers)
SELECT %s, %s, %s, %s, 0, '{}' FROM patience
ON CONFLICT (owner, route, key) DO NOTHING
RETURNING id, set_config('lock_timeout', NULL, true)
"""
KEEP = (
    "UPDATE http_idempotency SET object_id = %s, status = %s, headers = %s, body = %s WHERE id = %s"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What a creating view says; `object_id` lets a replay find the object again.

    `last` is done before the commit and nothing after it: what takes a lock that others wait for. It may still refuse.
    """

    status: int
    body: dict[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    object_id: UUID | None = None
    replayed: bool = False
    last: Callable[[], object] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Scope:
    """A key counts for one owner (the account's name, which need not exist yet) and one route."""

    owner: str
    route: str
    key: str
    fingerprint: bytes


Refresh = Callable[[UUID], dict[str, Any]]  # object id -> the body as it would be rendered now


def key_of(headers: Mapping[str, str], body: Mapping[str, Any]) -> str | None:
    """The Idempotency-Key of header or body. Raises MalformedHeader, ValidationFailed."""
    header, member = headers.get("Idempotency-Key"), body.get("idempotency_key")
    if header is not None and not _is_key(header):
        raise MalformedHeader("Idempotency-Key must be 1-255 printable ASCII characters.")
    if member is None:
        return header
    if not isinstance(member, str):
        raise ValidationFailed.of("idempotency_key", "type", "must be a text")
    if not _is_key(member):
        raise ValidationFailed.of("idempotency_key", "format", "want 1-255 printable ASCII")
    if header not in {None, member}:
        raise ValidationFailed.of("idempotency_key", "exclusive", "differs from the header")
    return member


def _is_key(text: str) -> bool:
    return 1 <= len(text) <= 255 and text.isascii() and text.isprintable()


def fingerprint(body: Mapping[str, Any], files: Iterable[tuple[str, bytes]] = ()) -> bytes:
    """SHA-256 over the canonical JSON of `body`, and over (field, sha256) of uploaded files."""
    members = {name: value for name, value in body.items() if name != "idempotency_key"}
    hashed = sorted((name, sha256.hex()) for name, sha256 in files)
    text = json.dumps([members, hashed], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).digest()


def idempotent(
    scope: Scope | None, *, create: Callable[[], Answer], refresh: Refresh | None = None
) -> Answer:
    """Run `create` in one transaction, or answer what the first request with this key answered.

    Without `scope` nothing is remembered. `refresh` is needed when bodies hold `input`, `output` or
    `url`, or pass 64 KiB. Raises IdempotencyKeyReused, IdempotencyInProgress.
    """
    with transaction.atomic():
        row = _claim(scope) if scope else None
        if scope is None or row is not None:
            answer = create()
            with sql.together():
                if row is not None:
                    _keep(row, answer, whole=refresh is None)
                if answer.last:
                    answer.last()
            return answer
        kept = Idempotency.objects.get(owner=scope.owner, route=scope.route, key=scope.key)
    if bytes(kept.fingerprint) != scope.fingerprint:
        raise IdempotencyKeyReused
    return _replay(kept, refresh)


def _claim(scope: Scope) -> int | None:
    """The id of the row that is now ours, None when somebody was first."""
    values: tuple[str | bytes, ...] = (scope.owner, scope.route, scope.key, scope.fingerprint)
    try:
        rows = sql.fetch(CLAIM, values)
        if not rows and _drop_expired(scope):
            rows = sql.fetch(CLAIM, values)
    except OperationalError as error:
        if isinstance(error.__cause__, (LockNotAvailable, QueryCanceled)):
            raise IdempotencyInProgress(retry_after=1) from None
        raise
    return rows[0][0] if rows else None


def _drop_expired(scope: Scope) -> bool:
    expired = Idempotency.objects.filter(
        owner=scope.owner, route=scope.route, key=scope.key, created_at__lt=Now() - KEPT_FOR
    )
    return expired.delete()[0] > 0


def _keep(row: int, answer: Answer, *, whole: bool) -> None:
    text: str | None = json.dumps(_without(answer.body))
    if text is not None and len(text) > KEPT_BYTES and not whole:
        text = None
    sql.execute(KEEP, [answer.object_id, answer.status, Jsonb(dict(answer.headers)), text, row])


def _without(value: Any) -> Any:
    """A copy with `true` in the places that are filled in again; what was null then stays null."""
    if isinstance(value, dict):
        return {
            name: _without(item) if item is None or name not in RENEWED else True
            for name, item in value.items()
        }
    return [_without(item) for item in value] if isinstance(value, list) else value


def _replay(kept: Idempotency, refresh: Refresh | None) -> Answer:
    fresh = refresh(kept.object_id) if refresh and kept.object_id else None
    body = fresh if kept.body is None else _filled(json.loads(kept.body), fresh)
    return Answer(
        status=kept.status,
        body=body or {},
        headers=kept.headers,
        object_id=kept.object_id,
        replayed=True,
    )


def _filled(kept: Any, fresh: Any) -> Any:
    """`kept` with every renewed member taken from the same place of `fresh`, null where there is none."""
    if isinstance(kept, dict):
        now = fresh if isinstance(fresh, dict) else {}
        return {
            name: now.get(name)
            if name in RENEWED and item is not None
            else _filled(item, now.get(name))
            for name, item in kept.items()
        }
    if isinstance(kept, list):
        places = zip_longest(kept, fresh[: len(kept)] if isinstance(fresh, list) else [])
        return [_filled(item, now) for item, now in places]
    return kept


def purge_expired(portion: int = 1000) -> int:
    """Delete rows older than 24 hours, in transactions of `portion` rows; the number deleted."""
    old = Idempotency.objects.filter(created_at__lt=Now() - KEPT_FOR)
    portions = iter(
        lambda: Idempotency.objects.filter(pk__in=old.values("pk")[:portion]).delete()[0], 0
    )
    return sum(portions)
