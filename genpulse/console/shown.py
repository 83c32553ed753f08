"""Tasks and models as the templates want them: the task object of the API and the words around it."""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from genpulse.console.requests import EXAMPLE
from tasks import catalogue, insight
from tasks.models import Status, Task
from tasks.render import render_tasks

SHOWN_TYPES = frozenset({"chat", "text-to-image", "text-to-video", "text-to-audio"})
LATEST_TASKS, LATEST_RUNS = 24, 3
LONGEST_DATA = 20_000

WORDS = {
    Status.QUEUED: "Waiting",
    Status.BLOCKED: "Blocked",
    Status.ADMITTED: "Starting",
    Status.RUNNING: "Running",
    Status.AWAITING: "At the provider",
    Status.VERIFYING: "Being checked",
    Status.SUCCEEDED: "Done",
    Status.FAILED: "Failed",
    Status.CANCELED: "Canceled",
    Status.EXPIRED: "Expired",
}
FILTERS = {
    "": "All",
    "queued,blocked": "Waiting",
    "admitted,running,awaiting,verifying": "Running",
    "succeeded": "Done",
    "failed,expired": "Failed",
    "canceled": "Canceled",
}
ADVICE = {  # by error kind
    "transient": "The provider did not answer as it should. Try again in a moment.",
    "rate_limited": "The provider takes no more requests for now. Try again later.",
    "overloaded": "The provider is full. Try again in a moment, or choose another model.",
    "quota_exhausted": "The operator's account at the provider is used up. Choose another model, or tell the operator.",
    "bad_credentials": "The provider refuses the operator's key. Tell the operator.",
    "bad_input": "The model cannot work with this. Change the prompt.",
    "content_refused": "The provider's safety rules refuse this. Change the prompt.",
    "not_available": "Nobody serves this model now. Choose another one.",
    "unknown_outcome": "Nobody can tell whether the provider did it. It was not charged; try again if you need it.",
    "lost": "The provider lost the result. It was not charged; try again.",
    "expired": "It did not start in time. Try again.",
    "canceled": "It was stopped on request and not charged.",
}


@dataclass(frozen=True, slots=True)
class Card:
    """One task on a page."""

    task: dict[str, Any]

    @property
    def word(self) -> str:
        return WORDS[Status(self.task["status"])]

    @property
    def name(self) -> str:
        """What it runs."""
        of = self.task["workflow"] or self.task["ability"] or {}
        return str(self.task["model"] or of.get("name") or of.get("key") or self.task["task_type"])

    @property
    def prompt(self) -> str:
        """What was asked for, as text; empty when it was removed or is none."""
        given = self.task["input"] or {}
        messages = given.get("messages") or [{}]
        said = given.get("prompt") or messages[-1].get("content") or ""
        return said if isinstance(said, str) else ""

    @property
    def is_waiting(self) -> bool:
        return self.task["status"] in {Status.QUEUED, Status.BLOCKED}

    @property
    def can_retry(self) -> bool:
        return bool(self.task["terminal"]) and self.task["status"] != Status.SUCCEEDED

    @property
    def advice(self) -> str:
        error = self.task["error"]
        return ADVICE.get(error["kind"], "") if error else ""

    @property
    def data(self) -> str:
        """A structured result as text."""
        data = (self.task["output"] or {}).get("data")
        return "" if data is None else json.dumps(data, ensure_ascii=False, indent=2)[:LONGEST_DATA]


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked for at once: one task, or a batch."""

    cards: Sequence[Card]

    @property
    def prompt(self) -> str:
        return self.cards[0].prompt

    @property
    def created_at(self) -> str:
        return str(self.cards[0].task["created_at"])


def cards(tasks: Sequence[Task]) -> list[Card]:
    return [Card(task) for task in render_tasks(tasks)]


def runs(tasks: QuerySet[Task]) -> list[Run]:
    """The latest of them, newest first, each with its cards in the order asked for."""
    newest = list(tasks.filter(superseded=False).order_by("-id")[:LATEST_TASKS])

    def together(task: Task) -> UUID:
        return task.batch_id or task.id

    groups = [list(group) for _, group in groupby(newest, together)][:LATEST_RUNS]
    ordered = [sorted(group, key=lambda task: task.batch_index or 0) for group in groups]
    shown = iter(cards([task for group in ordered for task in group]))
    return [Run([next(shown) for _ in group]) for group in ordered]


@dataclass(frozen=True, slots=True)
class Family:
    """Models that can be chosen, under one heading."""

    name: str
    models: Sequence[dict[str, Any]]


def families(chosen: Collection[str]) -> tuple[list[Family], list[dict[str, Any]]]:
    """Models that take a prompt: those of each family that can run now, and the others with the reason."""
    picture = insight.current()
    takes = [entry for entry in catalogue.entries() if _takes_a_prompt(entry)]
    models = [catalogue.render(entry, picture) for entry in takes]
    ready = sorted((m for m in models if m["available"]), key=lambda m: (m["family"], m["id"]))
    first = {ready[0]["id"]} if ready else set()
    marked = set(chosen) & {model["id"] for model in ready} or first
    shown = [{**model, "chosen": model["id"] in marked} for model in ready]
    grouped = groupby(shown, lambda model: str(model["family"]))
    return (
        [Family(name, list(group)) for name, group in grouped],
        [model for model in models if not model["available"]],
    )


def _takes_a_prompt(entry: catalogue.Entry) -> bool:
    suits = entry.bound or entry.types[0] in SHOWN_TYPES
    return bool(suits) and catalogue.accepts(entry, {"prompt": EXAMPLE})
