"""What can be asked for: models with their schema, price and state; and the providers behind them.

Models are those that adapters declare by name, those in the inventories of executors, and the names an operator has
bound to a workflow. A name that only matches a family's pattern is not listed, but can be looked up.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from typing import Any
from uuid import UUID

from django.db.models import Min, QuerySet

from admin_integrations import states
from admin_integrations.fleet import RouteView, blocked
from admin_integrations.models import Executor, WorkflowBinding
from genpulse.errors import Problem, ValidationFailed
from providers import registry
from providers.base import Model, Params, Provider
from providers.params import OpenParams
from providers.registry import Target
from tasks import insight, workflows
from tasks.insight import Picture
from tasks.models import Priority
from tasks.targets import provider_with
from wallet import pricing

DIALECT = "https://json-schema.org/draft/2020-12/schema"
NOBODY = UUID(int=0)
# Whole files, so that every example runs as it stands.
SPEECH = "data:audio/wav;base64,UklGRjQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YRAAAACAgICAgICAgICAgICAgICA"
PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAEAAAABAAQAAAACCEkxzAAAAEklEQVR42mP4DwUMo4xRBukMAOPT"
    "/hAC2mzjAAAAAElFTkSuQmCC"
)
FILM = "https://example.com/kite.mp4"
EXAMPLES: Mapping[
    str, Mapping[str, Any]
] = {  # by task type; what a model does not take is left out
    "chat": {"prompt": "Say hello."},
    "text-to-image": {"prompt": "a red kite"},
    "image-to-image": {"prompt": "make the kite blue", "images": [PICTURE]},
    "text-to-video": {"prompt": "a kite that climbs"},
    "image-to-video": {"prompt": "the kite climbs", "images": [PICTURE]},
    "video-to-video": {"prompt": "at night", "video": FILM},
    "text-to-audio": {"prompt": "wind over a field", "voice": "default"},
    "audio-to-text": {"audio": SPEECH},
    "embedding": {"texts": ["a red kite"]},
    "comfy-workflow": {
        "workflow": {
            "1": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        }
    },
    "coze-workflow": {"workflow_id": "7350000000000000000", "parameters": {"prompt": "a red kite"}},
}


@dataclass(frozen=True, slots=True)
class Entry:
    """A model name and who serves it. `bound`: a workflow does, so its own inputs count."""

    name: str
    target: Target
    types: tuple[str, ...]
    bound: bool = False

    @property
    def declared(self) -> Model | None:
        return None if self.bound else self.target.declared

    @property
    def route(self) -> RouteView:
        return RouteView(
            id=0, family=self.target.family, provider=self.target.provider, model=self.name
        )


def entries() -> list[Entry]:
    """Every model that is known by name, by name."""
    return [entry for name in sorted(_names()) if (entry := find(name)) is not None]


def _names() -> set[str]:
    declared = {
        model.name
        for provider in registry.all_providers()
        for model in provider.models
        if not model.name.endswith("*")
    }
    listed = {
        name
        for executor in insight.current().fleet.executors
        if executor.type != "comfyui"  # these are files, not models one could ask for
        for name in executor.models or ()
        if not name.endswith("*")
    }
    return declared | listed | set(_bindings().values_list("action", flat=True))


def _bindings() -> QuerySet[WorkflowBinding]:
    return WorkflowBinding.objects.filter(enabled=True, workflow__status="active")


def births() -> Callable[[Entry], datetime | None]:
    """Since when a model is there: its name was bound, or else the first executor of its provider was made."""
    bound = dict(_bindings().values_list("action").annotate(Min("created_at")))
    first = dict(Executor.objects.values_list("type").annotate(Min("created_at")))
    return lambda entry: bound.get(entry.name) or first.get(entry.target.provider)


def find(name: str) -> Entry | None:
    """What asking for this model would lead to; None when nobody knows it."""
    chosen = workflows.behind(name)
    try:
        target = registry.resolve(
            name, bound=chosen.family if chosen else None, listed=provider_with(name)
        )
    except Problem:
        return None
    types = tuple(target.declared.task_types) if target.declared else (target.task_type,)
    if chosen:
        return Entry(name, replace(target, declared=None), (target.task_type,), bound=True)
    return Entry(name, target, types)


def render(entry: Entry, picture: Picture) -> dict[str, Any]:
    """The item of the list."""
    route, declared, target = entry.route, entry.declared, entry.target
    why = unavailable(route, picture)
    place = picture.place(route, Priority.DEFAULT, NOBODY, 0)
    eta = None if why else picture.eta(route, place.position)
    price = pricing.Target(
        task_type=entry.types[0], model=entry.name, provider=entry.target.provider
    )
    return {
        "id": entry.name,
        "object": "model",
        "name": entry.name,
        "provider": target.provider,
        "family": target.family,
        "task_types": list(entry.types),
        "description": declared.description if declared else "",
        "aliases": list(declared.aliases) if declared else [],
        "available": why is None,
        "unavailable_reason": why,
        "price": pricing.list_price(price),
        "queue_depth": picture.rivals(route).depth,
        "eta_seconds": round(eta.finish, 3) if eta else None,
        "sandbox": target.provider == "sandbox",
    }


def unavailable(route: RouteView, picture: Picture) -> str | None:
    """Why a task for it would not start soon; None when nothing stands in its way."""
    if picture.wishes.of(route.family) == states.DRAINING:
        return f"the queue {route.family} takes no new work"
    verdicts = picture.verdicts(route)
    stuck = blocked(verdicts, route.provider)
    if stuck:
        return stuck[1]
    if not any(verdict.eligible for verdict in verdicts):
        return "; ".join(sorted({f"{v.executor.name}: {v.detail or v.reason}" for v in verdicts}))
    return picture.standstill(route) or None


def details(entry: Entry) -> dict[str, Any]:
    """What the item of one model adds: schema of its input, defaults, and a body that can be sent."""
    schema = _schema(entry)
    properties = schema.get("properties", {})
    return {
        "input_schema": {"$schema": DIALECT, **schema},
        "defaults": {
            name: value["default"]
            for name, value in properties.items()
            if value.get("default") is not None
        },
        "example": {"model": entry.name, "input": example(entry)},
    }


def _schema(entry: Entry) -> dict[str, Any]:
    return _schema_of((entry.declared.params if entry.declared else None) or OpenParams)


@cache
def _schema_of(params: type[Params]) -> dict[str, Any]:
    return params.model_json_schema()


def example(entry: Entry) -> dict[str, Any]:
    """An input this model accepts."""
    if entry.bound:
        return {"prompt": "a red kite"}
    schema = _schema(entry)
    properties = schema.get("properties", {})
    wanted = EXAMPLES[entry.types[0]]
    given = {
        name: _fitting(properties.get(name, {}), value)
        for name, value in wanted.items()
        if name in properties or schema.get("additionalProperties")
    }
    if entry.types[0] == "text-to-audio" and "voice" not in schema.get("required", []):
        given.pop("voice", None)
    return given


def _fitting(schema: Mapping[str, Any], value: Any) -> Any:
    """The first word of a closed list instead of ours."""
    options = schema.get("enum") or next(
        (one["enum"] for one in schema.get("anyOf", []) if "enum" in one), None
    )
    return options[0] if options and value not in options else value


def accepts(entry: Entry, given: Mapping[str, Any]) -> bool:
    """Whether submit would take this input."""
    try:
        registry.validate_input(entry.target, given)
    except ValidationFailed:
        return False
    return True


def providers() -> list[dict[str, Any]]:
    """Every provider of this installation, plug-ins too, with how many executors it has."""
    executors = [executor.type for executor in insight.current().fleet.executors]
    return [_provider(one, executors.count(one.name)) for one in registry.all_providers()]


def _provider(provider: Provider, executors: int) -> dict[str, Any]:
    types: Iterable[str] = (word for model in provider.models for word in model.task_types)
    return {
        "name": provider.name,
        "description": provider.description,
        "families": [f.name for f in registry.families() if f.provider == provider.name],
        "capabilities": list(provider.capabilities),
        "task_types": list(dict.fromkeys(types)),
        "configured": executors > 0,
        "executors": executors,
    }
