"""`/api/admin/workflows` and `/api/admin/workflow-bindings`."""

from typing import Annotated, Any

from django.db.models import QuerySet
from pydantic import Field, JsonValue, StringConstraints
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import editing, routing
from admin_integrations.models import Workflow, WorkflowBinding
from genpulse.dialects.platform_admin.resources import AdminBody, PageQuery, ResourceView
from genpulse.errors import NotFound
from genpulse.http.parsing import Id

Action = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Object = dict[str, JsonValue]


class WorkflowNotFound(NotFound):
    """No such workflow."""

    code = "workflow_not_found"


class BindingNotFound(NotFound):
    """No such binding."""

    code = "binding_not_found"


class WorkflowChange(AdminBody):
    """`PUT /api/admin/workflows/{id}`."""

    action: Annotated[str, StringConstraints(max_length=64)] = ""
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(
        default_factory=str
    )
    version: Annotated[str, StringConstraints(min_length=1, max_length=40)] = "v1"
    type: Annotated[Workflow.Kind, Field(strict=False)] = Workflow.Kind.GENERIC
    status: Annotated[Workflow.Status, Field(strict=False)] = Workflow.Status.INACTIVE
    definition: Object = {}
    metadata: Object = {}

    def apply(self, workflow: Workflow) -> None:
        for name, value in self.named().items():
            setattr(workflow, name, value)
        editing.save_workflow(workflow)


class NewWorkflow(WorkflowChange):
    """`POST /api/admin/workflows`."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]


class WorkflowViews(ResourceView[Workflow]):
    missing = WorkflowNotFound

    def rows(self) -> QuerySet[Workflow]:
        return Workflow.objects.all()

    def render(self, row: Workflow) -> dict[str, Any]:
        return {
            "id": str(row.id),
            "action": row.action,
            "name": row.name,
            "version": row.version,
            "type": row.type,
            "status": row.status,
            "definition": row.definition,
            "metadata": row.metadata,
            **self.times(row),
        }


class Workflows(WorkflowViews):
    """Versioned definitions; only active ones run."""

    bodies = {"POST": NewWorkflow}
    queries = {"GET": PageQuery}

    def get(self, request: Request) -> Response:
        return self.page()

    def post(self, request: Request) -> Response:
        return self.make(self.create)

    def create(self) -> Workflow:
        workflow = Workflow()
        self.parse(NewWorkflow).apply(workflow)
        return workflow


class OneWorkflow(WorkflowViews):
    """One version of a workflow; with it go its bindings."""

    bodies = {"PUT": WorkflowChange}

    def get(self, request: Request, id_: str) -> Response:
        return Response(self.render(self.one(id_)))

    def put(self, request: Request, id_: str) -> Response:
        return self.change(id_, self.parse(WorkflowChange).apply)

    def delete(self, request: Request, id_: str) -> Response:
        self.one(id_).delete()
        routing.forget()
        return self.deleted()


class BindingChange(AdminBody):
    """`PUT /api/admin/workflow-bindings/{id}`."""

    action: Action = Field(default_factory=str)  # not sent: nothing changes
    workflow_id: Id | None = None
    executor_id: Id | None = None
    model: Annotated[str, StringConstraints(max_length=200)] | None = None
    ability_id: Id | None = None
    priority: Annotated[int, Field(ge=-1_000_000, le=1_000_000)] = 0
    weight: Annotated[int, Field(ge=1, le=1_000_000)] = 1
    enabled: bool = True
    metadata: Object = {}

    def apply(self, binding: WorkflowBinding) -> None:
        values = self.named()
        if "model" in values:
            values["model"] = values["model"] or ""
        for name, value in values.items():
            setattr(binding, name, value)
        editing.save_binding(binding)


class NewBinding(BindingChange):
    """`POST /api/admin/workflow-bindings`."""

    action: Action


class BindingViews(ResourceView[WorkflowBinding]):
    missing = BindingNotFound

    def rows(self) -> QuerySet[WorkflowBinding]:
        return WorkflowBinding.objects.all()

    def render(self, row: WorkflowBinding) -> dict[str, Any]:
        return {
            "id": str(row.id),
            "action": row.action,
            "workflow_id": text(row.workflow_id),
            "executor_id": text(row.executor_id),
            "model": row.model or None,
            "ability_id": text(row.ability_id),
            "priority": row.priority,
            "weight": row.weight,
            "enabled": row.enabled,
            "metadata": row.metadata,
            **self.times(row),
        }


class Bindings(BindingViews):
    """What actions mean: one workflow, model or ability each, on any executor or on one."""

    bodies = {"POST": NewBinding}
    queries = {"GET": PageQuery}

    def get(self, request: Request) -> Response:
        return self.page()

    def post(self, request: Request) -> Response:
        return self.make(self.create)

    def create(self) -> WorkflowBinding:
        binding = WorkflowBinding()
        self.parse(NewBinding).apply(binding)
        return binding


class OneBinding(BindingViews):
    """One binding."""

    bodies = {"PUT": BindingChange}

    def get(self, request: Request, id_: str) -> Response:
        return Response(self.render(self.one(id_)))

    def put(self, request: Request, id_: str) -> Response:
        return self.change(id_, self.parse(BindingChange).apply)

    def delete(self, request: Request, id_: str) -> Response:
        self.one(id_).delete()
        routing.forget()
        return self.deleted()


def text(id_: Any) -> str | None:
    return str(id_) if id_ else None
