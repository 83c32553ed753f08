"""Everything a worker needs to know about an attempt, read in one go so that job threads need no database."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, cast
from uuid import UUID

from admin_integrations import vault
from genpulse import sql
from media import services as media
from media.services import InputFile
from providers.urls import same_origin
from tasks import workflows
from tasks.context import with_context

READ = (
    """
SELECT t.id AS task_id, a.number AS attempt, t.account_id, account.name AS account, t.batch_id, t.family,
       a.provider, a.model, t.task_type, t.priority, t.stream, t.quoted, t.route_id, t.conversation_id, t.created_at,
       greatest(extract(epoch FROM t.run_deadline - now()), 0)::float8 AS seconds_left, t.timeout,
       t.cancel_requested, t.run_deadline <= now() AS overdue, t.status, a.number <> t.attempt AS replaced,
       c.input, c.options, c.price, a.stage, a.submit_key, a.external_id, a.finds, a.result, a.late, a.alone,
       a.executor_id, a.executor, e.base_url, e.region, e.config, e.max_concurrency,
       a.credential_id, k.ciphertext, k.base_url AS key_origin, a.accepted_at,
       extract(epoch FROM now() - a.created_at)::float8 AS age
FROM tasks_attempt a
JOIN tasks_task t ON t.id = a.task_id
JOIN tasks_taskcontent c ON c.task_id = t.id
JOIN accounts_account account ON account.id = t.account_id
JOIN admin_integrations_executor e ON e.id = a.executor_id
LEFT JOIN admin_integrations_credential k ON k.id = a.credential_id
JOIN """
    + sql.unnest({"task_id": "uuid", "number": "int"}, alias="wanted")
    + " ON a.task_id = wanted.task_id AND a.number = wanted.number"
)

Key = tuple[UUID, int]


class Ids(TypedDict):
    """What every move of an attempt needs."""

    task_id: UUID
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One attempt with its task's bodies, its executor and its credential (still encrypted)."""

    task_id: UUID
    attempt: int
    account_id: UUID
    account: str
    batch_id: UUID | None
    family: str
    provider: str
    model: str | None
    task_type: str
    priority: int
    stream: bool
    quoted: int
    route_id: int
    conversation_id: str | None
    created_at: Any
    seconds_left: float | None
    timeout: int
    cancel_requested: bool
    overdue: bool | None
    status: str
    replaced: bool
    input: dict[str, Any]
    options: dict[str, Any]
    price: dict[str, Any]
    stage: str
    submit_key: UUID
    external_id: str
    finds: int
    result: dict[str, Any] | None
    late: bool
    alone: bool
    executor_id: UUID
    executor: str
    base_url: str
    region: str
    config: Mapping[str, Any]
    max_concurrency: int
    credential_id: UUID | None
    ciphertext: str | None
    key_origin: str | None
    accepted_at: Any
    age: float
    files: Mapping[str, InputFile]

    @property
    def key(self) -> Key:
        return (self.task_id, self.attempt)

    @property
    def ids(self) -> Ids:
        return {"task_id": self.task_id, "attempt": self.attempt}

    @property
    def models(self) -> list[str]:
        """The fall-back list, empty for the plain case."""
        return self.options.get("models") or []

    @property
    def tariff(self) -> dict[str, Any]:
        """The price it was quoted under; a fall-back list has one for each model."""
        by_model = self.price.get("by_model")
        return cast("dict[str, Any]", by_model[self.model or ""]) if by_model else self.price

    def secret(self) -> str | None:
        """The vendor key in clear; decrypted only here, in workers. Raises VaultError, also for a foreign address."""
        if self.ciphertext is None or self.credential_id is None:
            return None
        if self.key_origin and not same_origin(self.key_origin, self.base_url):
            raise vault.VaultError("the key is bound to another address")
        return vault.decrypt(self.ciphertext, owner=self.credential_id)


def load(keys: Sequence[Key]) -> dict[Key, Work]:
    """The attempts of `keys` that exist."""
    return {key: complete(row) for key, row in ask(keys)().items()}


def ask(keys: Sequence[Key]) -> Callable[[], dict[Key, dict[str, Any]]]:
    """Send the question; the rows of those that exist, for `complete`."""
    if not keys:
        return dict
    found = sql.later(READ, sql.columns(list(keys)))
    return lambda: {(row["task_id"], row["attempt"]): row for row in found.dicts()}


def complete(row: dict[str, Any]) -> Work:
    """With its context, its workflow and its files, which may take more questions."""
    for name in ("input", "options", "price", "config", "result"):
        row[name] = sql.loads(row[name])
    row["input"] = row["input"] or {}
    row["input"] = with_context(row)
    presets = row["options"].get("presets") or {}
    row["input"] = workflows.filled(presets.get(row["model"]), row["input"])
    row["files"] = (
        media.input_files(row["account_id"], row["input"]) if _has_files(row["input"]) else {}
    )
    return Work(**row)


def _has_files(value: Any) -> bool:
    """Most inputs name no asset, and then no query is needed."""
    if isinstance(value, str):
        return value.startswith("asset:")
    items: Iterable[Any] = value.values() if isinstance(value, dict) else value
    return isinstance(value, (dict, list)) and any(_has_files(item) for item in items)
