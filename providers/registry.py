"""From the words of a request to the adapter that serves it: providers, families, models, task types, input.

    target = resolve("sandbox-image", input={"prompt": "a red kite", "images": ["https://..."]})
    target.provider, target.family, target.task_type      # "sandbox", "sandbox", "image-to-image"
    clean = validate_input(target, {"prompt": "a red kite", ...})

Nothing here asks a database; what the operator's rows decide (bindings, inventories) is passed in.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from genpulse.config import config
from genpulse.errors import FieldError, UnknownModel, UnknownProvider, ValidationFailed
from genpulse.http.parsing import refusal
from providers import discovery
from providers import families as table
from providers.base import (
    TASK_TYPES,
    Family,
    Model,
    Params,
    Provider,
    ProviderError,
    TaskType,
)
from providers.http import same_origin
from providers.params import OpenParams

__all__ = [
    "Target",
    "all_providers",
    "families",
    "find_model",
    "get",
    "params_for",
    "read_params",
    "resolve",
    "same_origin",
    "task_type_of",
    "validate_input",
]

ALIASES: Mapping[str, TaskType] = MappingProxyType(
    {
        "text": "chat",
        "image": "text-to-image",
        "video": "text-to-video",
        "audio": "text-to-audio",
        "speech": "text-to-audio",
        "transcription": "audio-to-text",
        "embeddings": "embedding",
        "comfyui": "comfy-workflow",
        "coze": "coze-workflow",
    }
)
# Only these run without a model: the workflow says it all.
WORKFLOW_TYPES: tuple[TaskType, ...] = ("comfy-workflow", "coze-workflow")
FROM_IMAGES: Mapping[TaskType, TaskType] = MappingProxyType(
    {"text-to-image": "image-to-image", "text-to-video": "image-to-video"}
)
NEEDS: Mapping[TaskType, str] = MappingProxyType(
    {
        "image-to-image": "images",
        "image-to-video": "images",
        "video-to-video": "video",
        "audio-to-text": "audio",
    }
)
# What models are for, of which their provider says nothing.
UNDECLARED: Mapping[str, tuple[TaskType, ...]] = MappingProxyType(
    {
        "sd": ("text-to-image", "image-to-image"),
        "comfyui": ("comfy-workflow",),
        "coze": ("coze-workflow",),
    }
)
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Target:
    """Who works on a task. `model` is the name asked for, `vendor_model` the id that goes out."""

    provider: str
    family: str
    model: str | None
    task_type: TaskType
    vendor_model: str = ""
    declared: Model | None = None
    bound: bool = False  # an operator's binding decided; the input belongs to its workflow


def families() -> tuple[Family, ...]:
    """Every family of this installation; each has a queue."""
    return table.all_families()


def all_providers() -> tuple[Provider, ...]:
    """Every provider, by name."""
    found = discovery.providers()
    return tuple(found[name] for name in sorted(found))


def get(name: str) -> Provider:
    """The provider of that name. Raises UnknownProvider."""
    found = discovery.providers()
    if name not in found:
        raise UnknownProvider(
            f"There is no provider {name!r}.",
            errors=[FieldError("provider", "choice", "no such provider")],
            known=sorted(found),
        )
    return found[name]


def find_model(model: str) -> tuple[Provider, Model] | None:
    """What is declared for a name or alias; an exact name beats a prefix, whoever declares it."""
    return _closest(model.lower(), all_providers())


@lru_cache(maxsize=4096)
def _closest(model: str, among: tuple[Provider, ...]) -> tuple[Provider, Model] | None:
    found = [
        (provider, declared)
        for provider in among
        if (declared := provider.declared(model)) is not None
    ]
    return max(found, key=lambda pair: _closeness(pair[1]), default=None)


def _closeness(model: Model) -> tuple[bool, int]:
    return not model.name.endswith("*"), len(model.name)


def task_type_of(word: str) -> TaskType:
    """A task type by its name or alias. Raises ValidationFailed on `task_type`."""
    word = ALIASES.get(word, word)
    if word not in TASK_TYPES:
        raise ValidationFailed.of("task_type", "choice", f"want one of {', '.join(TASK_TYPES)}")
    return word


def resolve(
    model: str | None = None,
    *,
    provider: str | None = None,
    task_type: str | None = None,
    input: Mapping[str, Any] = NOTHING,  # noqa: A002 - the contract's name
    bound: str | None = None,
    listed: str | None = None,
) -> Target:
    """Choose: explicit provider; `bound`; pattern; `listed`; DEFAULT_FAMILY.

    `bound`: family of a workflow, ability or binding the operator made for this model. `listed`: provider of an
    executor whose inventory has the model. Raises UnknownProvider, UnknownModel (`known` = families), ValidationFailed.
    """
    wanted = task_type_of(task_type) if task_type else None
    if provider is not None:
        model = model or _default_model(get(provider), wanted)
        family = _family_at(get(provider).name, model)
    else:
        family = _family_for(model, bound, listed)
    declared = _declared(family, model)
    is_bound = provider is None and bound is not None
    chosen = wanted or _inferred(declared, family, input)
    if not is_bound:
        _check_type(declared, chosen)
    goes_out = _vendor_model(declared, model)
    return Target(family.provider, family.name, model, chosen, goes_out, declared, is_bound)


def _vendor_model(declared: Model | None, model: str | None) -> str:
    return declared.name if declared and not declared.name.endswith("*") else model or ""


def _family_at(provider: str, model: str | None) -> Family:
    mine = table.families_of(provider)
    return (table.longest_match(model, mine) if model else None) or mine[0]


def _family_for(model: str | None, bound: str | None, listed: str | None) -> Family:
    if bound and (family := table.family_named(bound)):
        return family
    if not model:
        raise ValidationFailed.of("model", "required", "name a model, a workflow or an ability")
    found = find_model(model)
    family = (
        table.family_of(model)
        or (_family_at(listed, model) if listed else None)
        or (_family_at(found[0].name, model) if found else None)
        or table.family_named(config.default_family)
    )
    if family is None:
        known = [family.name for family in table.all_families()]
        raise UnknownModel(
            f"No family serves the model {model!r}.",
            errors=[FieldError("model", "unknown_model", "no family serves this model")],
            known=known,
        )
    return family


def _declared(family: Family, model: str | None) -> Model | None:
    """A known family may have no adapter here: its tasks wait, blocked."""
    serving = discovery.providers().get(family.provider)
    return serving.declared(model) if serving is not None and model else None


def _default_model(provider: Provider, wanted: TaskType | None) -> str | None:
    if wanted is None:
        raise ValidationFailed.of("task_type", "required", "name a model or a task type")
    for candidate in provider.models:
        if wanted in candidate.task_types and not candidate.name.endswith("*"):
            return candidate.name
    if wanted in WORKFLOW_TYPES:
        return None
    raise ValidationFailed.of(
        "model", "required", f"{provider.name} has no default model for {wanted}"
    )


def _inferred(declared: Model | None, family: Family, given: Mapping[str, Any]) -> TaskType:
    types = tuple(declared.task_types) if declared else UNDECLARED.get(family.name, ("chat",))
    first = types[0]
    if given.get("video") and "video-to-video" in types:
        return "video-to-video"
    from_images = FROM_IMAGES.get(first)
    return from_images if from_images in types and given.get("images") else first


def _check_type(declared: Model | None, chosen: TaskType) -> None:
    if declared and chosen not in declared.task_types:
        raise ValidationFailed.of(
            "task_type", "choice", f"{declared.name} takes {', '.join(declared.task_types)}"
        )


def params_for(
    provider: str, model: str | None, given: Mapping[str, Any], *, sent: bool = False
) -> tuple[str, Params]:
    """The vendor's id of a model and the typed parameters of its call, for an engine that holds a stored task.

    Raises UnknownProvider, and ProviderError (`bad_input`) where a newer schema refuses an old input. With `sent` the
    vendor has the job already: what is left of the input is passed on as it is, for it may be purged by now.
    """
    declared = get(provider).declared(model) if model else None
    try:
        return _vendor_model(declared, model), read_params(declared, given)
    except ValidationFailed as problem:
        if not sent:
            raise ProviderError("bad_input", problem.detail) from None
        return _vendor_model(declared, model), _schema(declared).model_construct(**given)


def validate_input(target: Target, given: Mapping[str, Any]) -> dict[str, Any]:
    """`input` as it is stored: checked, without nulls, nothing added.

    Raises ValidationFailed with fields below `input.`.
    """
    clean = {name: value for name, value in given.items() if value is not None}
    read_params(target.declared, clean)
    needed = NEEDS.get(target.task_type)
    if needed and not target.bound and not clean.get(needed):
        raise ValidationFailed.of(f"input.{needed}", "required", f"{target.task_type} needs it")
    return clean


def read_params(declared: Model | None, given: Mapping[str, Any]) -> Params:
    """The typed parameters for a `Call`. Raises ValidationFailed with fields below `input.`."""
    data = {name: value for name, value in given.items() if value is not None}
    try:
        return _schema(declared).model_validate(data)
    except ValidationError as error:
        raise refusal(error, data, prefix="input") from None


def _schema(declared: Model | None) -> type[Params]:
    return declared.params if declared and declared.params else OpenParams
