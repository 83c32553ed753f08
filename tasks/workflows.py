"""Workflows that operators keep: as the target of a task, or behind a model or an action that is bound to one.

The definition is pinned to the task when it is submitted and joins the input only on its way to the adapter, so that
clients see, retry and clone what they sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from admin_integrations import routing
from admin_integrations.models import Workflow
from genpulse.errors import FieldError, UnknownWorkflow, ValidationFailed, WorkflowFormatUi
from genpulse.ids import parse_id
from providers import families
from providers.wire.comfy_results import files_of
from providers.wire.comfy_workflow import (
    MEDIA_KINDS,
    WorkflowError,
    named_inputs,
    prepare_workflow,
    workflow_inputs,
)

RUNNABLE = (Workflow.Kind.COMFYUI, Workflow.Kind.COZE)
COZE_NAMES = ("workflow_id", "ext", "bot_id", "app_id", "workflow_version", "is_async")
MEDIA_NAMES = {"image": "images", "video": "video", "audio": "audio"}  # as shared input names
Names = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Runnable:
    """A workflow chosen for one task. `model`: what the task shows; `executor` None: any of that provider."""

    id: UUID
    name: str
    version: str
    kind: str
    definition: Names
    model: str
    family: str
    executor: UUID | None = None

    @property
    def label(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def shown(self) -> dict[str, str]:
        return {"id": str(self.id), "name": self.name, "version": self.version}

    @property
    def preset(self) -> dict[str, Any]:
        """What joins the input of the task for the adapter."""
        if self.kind == Workflow.Kind.COMFYUI:
            return {"workflow": self.definition}
        kept = {name: self.definition[name] for name in COZE_NAMES if name in self.definition}
        return kept | {"parameters": self.definition.get("parameters") or {}}

    @property
    def files(self) -> tuple[str, ...]:
        """The model files it loads as it is kept; an input may name others."""
        return tuple(files_of(self.definition)) if self.kind == Workflow.Kind.COMFYUI else ()


def lookup(reference: str) -> Workflow | None:
    """An active workflow by id, name (its newest active version) or `name@version`."""
    name, _, version = reference.partition("@")
    known = parse_id(reference)
    rows = Workflow.objects.filter(status=Workflow.Status.ACTIVE, type__in=RUNNABLE)
    rows = rows.filter(pk=known) if known else rows.filter(name=name)
    return (rows.filter(version=version) if version else rows).order_by("-pk").first()


def find(reference: str) -> Runnable:
    """The same for a task. Raises UnknownWorkflow."""
    found = lookup(reference)
    if found is None:
        raise UnknownWorkflow(
            f"There is no workflow {reference!r}.",
            errors=[FieldError("workflow", "choice", "no such workflow")],
        )
    return runnable(found)


def runnable(
    workflow: Workflow, *, model: str | None = None, executor: UUID | None = None
) -> Runnable:
    """`model`: the name it was asked for by; without one the task shows the workflow's own."""
    family = families.family_of(model) if model else None
    served_here = family is not None and family.provider == workflow.type
    return Runnable(
        id=workflow.id,
        name=workflow.name,
        version=workflow.version,
        kind=workflow.type,
        definition=workflow.definition,
        model=model or f"{workflow.name}@{workflow.version}",
        family=family.name if family and served_here else workflow.type,
        executor=executor,
    )


def behind(model: str) -> Runnable | None:
    """The workflow an operator bound to this model's name, if any."""
    binding = routing.choose(model, workflows_only=True)
    if not binding or not binding.workflow_id or binding.workflow_type not in RUNNABLE:
        return None
    workflow = Workflow.objects.filter(pk=binding.workflow_id).first()
    return runnable(workflow, model=model, executor=binding.executor_id) if workflow else None


def check(chosen: Runnable, given: Names) -> None:
    """Raises ValidationFailed naming the field of `input`, or `workflow` when its definition cannot run."""
    for name in chosen.preset:
        if name in given and name not in {"parameters", "ext"}:
            raise ValidationFailed.of(f"input.{name}", "exclusive", "the workflow says it")
    if chosen.kind == Workflow.Kind.COMFYUI:
        check_graph(chosen.definition, given, field="workflow")
    elif not str(chosen.definition.get("workflow_id", "")).isdecimal():
        raise ValidationFailed.of("workflow", "required", "its definition has no workflow_id")


def check_graph(graph: Any, given: Names, *, field: str = "input.workflow") -> None:
    """The same for any ComfyUI graph; `field` names the graph itself."""
    try:
        prepare_workflow(graph, named_inputs(given))
    except WorkflowError as error:
        item = FieldError(_field(error.field, given, field), error.problem, error.hint)
        if error.code == WorkflowFormatUi.code:
            raise WorkflowFormatUi(error.hint, errors=[item]) from None
        raise ValidationFailed(f"{item.field}: {error.hint}", errors=[item]) from None


def files(provider: str, chosen: Runnable | None, given: Names) -> tuple[str, ...]:
    """The model files a task will load, the biggest first; for input that was checked before."""
    graph = chosen.definition if chosen else given.get("workflow")
    if provider != "comfyui" or not graph:
        return ()
    return tuple(files_of(prepare_workflow(graph, named_inputs(given))))


def _field(path: str, given: Names, graph: str) -> str:
    """Where the client wrote it: shared names may stand beside `inputs`."""
    head, _, name = path.partition(".")
    if head == "workflow":
        return graph + path.removeprefix("workflow")
    beside = head == "inputs" and name in given and name not in (given.get("inputs") or {})
    return f"input.{name}" if beside else f"input.{path}"


def media_places(graph: Any) -> dict[str, str]:
    """`inputs.<name>` -> the shared name whose rules its media obey; empty for what is no ComfyUI graph."""
    try:
        found = workflow_inputs(graph)
    except WorkflowError:
        return {}
    return {
        f"inputs.{one['name']}": MEDIA_NAMES[one["type"]]
        for one in found
        if one["type"] in MEDIA_KINDS
    }


def filled(preset: Names | None, given: dict[str, Any]) -> dict[str, Any]:
    """The input as the adapter takes it: the workflow's own part, and all that was asked as named inputs."""
    if not preset:
        return given
    if "workflow" in preset:
        return {"workflow": preset["workflow"], "inputs": named_inputs(given)}
    shared = {k: v for k, v in given.items() if k not in {"parameters", "inputs", "ext"}}
    asked = shared | (given.get("inputs") or {}) | (given.get("parameters") or {})
    ext = (preset.get("ext") or {}) | (given.get("ext") or {})
    return {**preset, "parameters": {**preset["parameters"], **asked}} | (
        {"ext": ext} if ext else {}
    )
