"""`/api/v1/workflows`: what can be run by name, and what it takes."""

from typing import Any

from django.db.models import QuerySet
from rest_framework.request import Request
from rest_framework.response import Response

from admin_integrations import fleet
from admin_integrations.fleet import RouteView
from admin_integrations.models import Workflow
from genpulse.errors import NotFound
from genpulse.http.pagination import paginate
from genpulse.http.views import NativeView
from providers.wire.comfy_workflow import WorkflowError, workflow_inputs
from tasks import workflows
from tasks.workflows import Runnable
from wallet import pricing
from wallet.rules import Target

JSON_TYPES = {str: "text", bool: "boolean", int: "integer", float: "number"}


class Workflows(NativeView):
    """The workflows that tasks may name."""

    scopes = {"GET": "tasks:read"}

    def get(self, request: Request) -> Response:
        return Response(paginate(rows(), request.query_params, render))


class OneWorkflow(NativeView):
    """One workflow by id, name or `name@version`."""

    scopes = {"GET": "tasks:read"}

    def get(self, request: Request, reference: str) -> Response:
        chosen = workflows.lookup(reference)
        if chosen is None:
            raise NotFound("No such workflow.")
        return Response(render(chosen))


def rows() -> QuerySet[Workflow]:
    return Workflow.objects.filter(
        status=Workflow.Status.ACTIVE, type__in=workflows.RUNNABLE
    ).exclude(definition={})


def render(workflow: Workflow) -> dict[str, Any]:
    chosen = workflows.runnable(workflow)
    target = Target(
        task_type=f"{'comfy' if chosen.kind == 'comfyui' else chosen.kind}-workflow",
        model=chosen.model,
        provider=chosen.kind,
    )
    return {
        **chosen.shown,
        "object": "workflow",
        "kind": chosen.kind,
        "inputs": inputs_of(chosen),
        "price": pricing.list_price(target),
        "available": is_available(chosen),
    }


def inputs_of(chosen: Runnable) -> list[dict[str, Any]]:
    """`[{name, type, default, required}]`; those of Coze are the parameters of its definition."""
    if chosen.kind == Workflow.Kind.COMFYUI:
        try:
            return workflow_inputs(chosen.definition)
        except WorkflowError:
            return []
    return [
        {
            "name": name,
            "type": JSON_TYPES.get(type(value), "any"),
            "default": value,
            "required": False,
        }
        for name, value in chosen.preset["parameters"].items()
    ]


def is_available(chosen: Runnable) -> bool:
    route = RouteView(id=0, family=chosen.family, provider=chosen.kind, model=chosen.model)
    return any(verdict.eligible for verdict in fleet.current().verdicts(route))
