"""The bodies of submit, batch, clone and quote, as closed pydantic models. docs/api.md is made from them."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, JsonValue, field_validator

from genpulse.http.parsing import AwareTime, Body, Duration, MoneyMicro, wrong
from tasks.event_names import WorkEvent
from tasks.models import Priority

MAX_TASKS = 1000
MAX_MODELS = 50
METADATA_BYTES = 8 << 10
MINUTE, HOUR, DAY = 60, 3600, 86400

PRIORITIES = {
    "critical": Priority.CRITICAL,
    "high": Priority.CRITICAL,
    "default": Priority.DEFAULT,
    "normal": Priority.DEFAULT,
    "low": Priority.LOW,
}


def priority(value: Any) -> int:
    """critical, default, low, their aliases, or 0-9 (0-2 low, 3-6 default, 7-9 critical)."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise wrong("type", "want critical, default, low or 0-9")
    if isinstance(value, int):
        if not 0 <= value <= 9:
            raise wrong("choice", "want a number from 0 to 9")
        return Priority.LOW if value <= 2 else Priority.DEFAULT if value <= 6 else Priority.CRITICAL
    if value not in PRIORITIES:
        raise wrong("choice", "want critical (high), default (normal), low or 0-9")
    return PRIORITIES[value]


def whole_object(value: Any) -> Any:
    if isinstance(value, dict) and len(str(value)) > METADATA_BYTES:
        import json

        if len(json.dumps(value, ensure_ascii=False).encode()) > METADATA_BYTES:
            raise wrong("too_long", "at most 8 KiB as JSON")
    return value


def model_names(value: Any) -> Any:
    """One name of 1-200 characters, or a list of 1-5 different ones."""
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) for name in names):
        raise wrong("type", "want a model name, or a list of them")
    if not names or not all(names):
        raise wrong("empty", "name a model")
    if len(names) > 5 or any(len(name) > 200 for name in names):
        raise wrong("too_long", "at most 5 names of at most 200 characters")
    if len(set(names)) != len(names):
        raise wrong("unique", "name every model once")
    return value


def between(low: int, high: int) -> Any:
    """A duration from `low` to `high` seconds."""
    return Annotated[Duration, Field(ge=low, le=high)]


PriorityLevel = Annotated[int, BeforeValidator(priority)]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
Tag = Annotated[str, Field(min_length=1, max_length=64)]
Metadata = Annotated[dict[str, JsonValue], BeforeValidator(whole_object)]
ExecutorName = Annotated[str, Field(min_length=1, max_length=100)]
ExecutorNames = Annotated[list[ExecutorName], Field(max_length=50)]


class WebhookWish(Body):
    """Where the events of this one object go; default: its terminal events."""

    url: str = Field(min_length=1, max_length=2000)
    events: list[WorkEvent] | None = Field(None, min_length=1, max_length=50)


class ExecutorWish(Body):
    """`only`, `region`, `tags` filter; `prefer` orders."""

    only: ExecutorNames = []
    prefer: ExecutorNames = []
    avoid: ExecutorNames = []
    region: str | None = Field(None, max_length=50)
    tags: Annotated[list[Tag], Field(max_length=20)] = []


class TaskBody(Body):
    """POST /api/v1/tasks, and one item of a batch."""

    model: Annotated[str | list[str] | None, BeforeValidator(model_names)] = None
    workflow: str | None = Field(None, min_length=1, max_length=200)
    ability: str | None = Field(None, min_length=1, max_length=200)
    provider: str | None = Field(None, min_length=1, max_length=50)
    task_type: str | None = Field(None, min_length=1, max_length=50)
    input: dict[str, JsonValue]
    priority: PriorityLevel = Priority.DEFAULT
    idempotency_key: str | None = None
    webhook: WebhookWish | None = None
    metadata: Metadata = {}
    tags: Annotated[list[Tag], Field(max_length=10)] = []
    run_at: AwareTime | None = None
    start_within: between(1, 7 * DAY) | None = None  # type: ignore[valid-type]
    complete_by: AwareTime | None = None
    timeout: between(1, DAY) | None = None  # type: ignore[valid-type]
    max_price: Annotated[MoneyMicro, Field(ge=0)] | None = None
    max_attempts: int = Field(5, ge=1, le=10)
    executor: ExecutorName | ExecutorWish | None = None
    store: bool = True
    retention: between(HOUR, 365 * DAY) | None = None  # type: ignore[valid-type]
    stream: bool = False
    conversation_id: str | None = Field(None, min_length=1, max_length=128)

    @property
    def models(self) -> list[str]:
        """The fall-back list, one name for the plain case, empty without a model."""
        if self.model is None:
            return []
        return self.model if isinstance(self.model, list) else [self.model]

    @property
    def wish(self) -> ExecutorWish:
        if isinstance(self.executor, str):
            return ExecutorWish(prefer=[self.executor])
        return self.executor or ExecutorWish()


class BatchBody(Body):
    """What a batch adds to the common fields of its tasks; those are checked child by child."""

    models: Annotated[list[ModelName], Field(min_length=1, max_length=MAX_MODELS)] | None = None
    matrix: dict[str, Annotated[list[JsonValue], Field(min_length=1)]] | None = None
    items: (
        Annotated[list[dict[str, JsonValue]], Field(min_length=1, max_length=MAX_TASKS)] | None
    ) = None
    mode: Literal["all", "race"] = "all"
    title: str | None = Field(None, max_length=200)

    @field_validator("models")
    @classmethod
    def _once(cls, value: list[str] | None) -> list[str] | None:
        if value and len(set(value)) != len(value):
            raise wrong("unique", "name every model once")
        return value


class CloneBody(Body):
    """POST /api/v1/tasks/{id}/clone: any field of a task; `input` is merged (RFC 7386), others replace."""

    model_config = {**Body.model_config, "extra": "allow"}


def merge_patch(target: Any, patch: Any) -> Any:
    """RFC 7386: null removes, objects merge, all else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged
