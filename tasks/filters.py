"""The filters of task and batch lists: unknown parameters are ignored, unknown words refused."""

from typing import Annotated, Any, Literal

from django.db.models import Count, F, Q, QuerySet
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from genpulse.errors import ValidationFailed
from genpulse.http.parsing import AwareTime, CommaList, Flag, Id
from providers import registry
from tasks.models import TERMINAL, Batch, Status, Task
from tasks.requests import PriorityLevel

Source = Literal[
    "native",
    "generation",
    "chat",
    "ai",
    "platform",
    "openai",
    "console",
    "cli",
    "replicate",
    "fal",
    "comfy",
    "mcp",
]


def number(value: Any) -> Any:
    """In a query string numbers are text."""
    return int(value) if isinstance(value, str) and value.isdecimal() else value


class TaskFilter(BaseModel):
    """What a list of tasks may be narrowed by; also the `filter` of the bulk verbs."""

    model_config = ConfigDict(extra="ignore")

    status: CommaList | None = None
    terminal: Flag | None = None
    model: str | None = None
    provider: str | None = None
    family: str | None = None
    task_type: str | None = None
    priority: Annotated[PriorityLevel, BeforeValidator(number)] | None = None
    batch_id: Id | None = None
    conversation_id: str | None = None
    source: Source | None = None
    tag: str | None = None
    q: str | None = Field(None, min_length=1, max_length=200)
    created_after: AwareTime | None = None
    created_before: AwareTime | None = None
    key: Id | None = None

    def apply(self, tasks: QuerySet[Task]) -> QuerySet[Task]:
        """Raises ValidationFailed for a status or task type that does not exist."""
        for word in self.status or []:
            if word not in Status.values:
                raise ValidationFailed.of("status", "choice", f"want {', '.join(Status.values)}")
        plain = {
            "status__in": self.status,
            "model": self.model,
            "provider": self.provider,
            "family": self.family,
            "task_type": registry.task_type_of(self.task_type) if self.task_type else None,
            "priority": self.priority,
            "batch_id": self.batch_id,
            "conversation_id": self.conversation_id,
            "source": self.source,
            "tags__contains": [self.tag] if self.tag else None,
            "taskcontent__prompt__icontains": self.q,
            "created_at__gt": self.created_after,
            "created_at__lt": self.created_before,
            "key_id": self.key,
        }
        tasks = tasks.filter(**{name: value for name, value in plain.items() if value is not None})
        if self.terminal is None:
            return tasks
        ended = Q(status__in=TERMINAL)
        return tasks.filter(ended if self.terminal else ~ended)


class BatchFilter(BaseModel):
    """What a list of batches may be narrowed by."""

    model_config = ConfigDict(extra="ignore")

    status: CommaList | None = None
    mode: Literal["all", "race"] | None = None
    source: Source | None = None
    tag: str | None = None
    created_after: AwareTime | None = None
    created_before: AwareTime | None = None

    def apply(self, batches: QuerySet[Batch]) -> QuerySet[Batch]:
        """Raises ValidationFailed for a status that does not exist."""
        words = {"processing", "completed", "partial", "failed"}
        for word in self.status or []:
            if word not in words:
                raise ValidationFailed.of("status", "choice", f"want {', '.join(sorted(words))}")
        plain: dict[str, Any] = {
            "mode": self.mode,
            "source": self.source,
            "tags__contains": [self.tag] if self.tag else None,
            "created_at__gt": self.created_after,
            "created_at__lt": self.created_before,
        }
        batches = batches.filter(**{k: v for k, v in plain.items() if v is not None})
        return with_status(batches, set(self.status)) if self.status else batches


def with_status(batches: QuerySet[Batch], wanted: set[str]) -> QuerySet[Batch]:
    """Batches whose children amount to one of the words."""
    live = Q(task__superseded=False)
    counted = batches.annotate(
        good=Count("task", filter=live & Q(task__status=Status.SUCCEEDED)),
        all=Count("task", filter=live),
    )
    rules = {
        "processing": Q(open__gt=0),
        "completed": Q(open=0) & (Q(winner_id__isnull=False) | Q(good=F("all"))),
        "partial": Q(open=0, winner_id=None, good__gt=0, good__lt=F("all")),
        "failed": Q(open=0, winner_id=None, good=0),
    }
    chosen = Q(pk__in=[])
    for word in wanted:
        chosen |= rules[word]
    return counted.filter(chosen)
