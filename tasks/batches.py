"""From a batch body to its children: models outermost, then the keys of the matrix, the last one fastest."""

from collections.abc import Mapping
from itertools import product
from typing import Any

from genpulse.errors import ValidationFailed
from genpulse.http.parsing import parse
from tasks.requests import MAX_TASKS, BatchBody, TaskBody

OWN = frozenset(BatchBody.model_fields)


def children(data: Mapping[str, Any]) -> tuple[BatchBody, list[tuple[str, TaskBody]]]:
    """The batch's own fields, and each child's body with the place that refusals name."""
    own = parse(BatchBody, {name: value for name, value in data.items() if name in OWN})
    common = {name: value for name, value in data.items() if name not in OWN}
    common.pop("idempotency_key", None)
    if own.items is not None:
        _alone(own)
        merged = [
            (f"items.{index}", parse(TaskBody, _merged(common, item), prefix=f"items.{index}"))
            for index, item in enumerate(own.items)
        ]
        return own, merged
    return own, [(place, parse(TaskBody, child)) for place, child in _expanded(own, common)]


def _alone(own: BatchBody) -> None:
    for name in ("models", "matrix"):
        if getattr(own, name) is not None:
            raise ValidationFailed.of(name, "exclusive", "items already name every task")


def _merged(common: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an item replace the common ones; `input` is merged."""
    merged = {**common, **item}
    if isinstance(common.get("input"), dict) and isinstance(item.get("input"), dict):
        merged["input"] = {**common["input"], **item["input"]}
    return merged


def _expanded(own: BatchBody, common: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    if own.models is not None and "model" in common:
        raise ValidationFailed.of("model", "exclusive", "models already names them")
    models = [
        (f"models.{index}", {"model": name}) for index, name in enumerate(own.models or ())
    ] or [("", {})]
    matrix = own.matrix or {}
    total = len(models)
    for values in matrix.values():
        total *= len(values)
    if total > MAX_TASKS:
        field = "matrix" if matrix else "models"
        raise ValidationFailed.of(field, "too_long", f"at most {MAX_TASKS} tasks, not {total}")
    given = common.get("input")
    return [
        (
            place,
            {
                **common,
                **model,
                "input": {**given, **dict(zip(matrix, values, strict=True))}
                if isinstance(given, dict)
                else given or dict(zip(matrix, values, strict=True)),
            },
        )
        for place, model in models
        for values in product(*matrix.values())
    ]
