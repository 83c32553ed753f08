"""The rules for what operators change, the same for the API and for Django admin.

Each `save_*` checks, writes and tells this process; other processes see it within half a second. Raises the Problem
that names the mistake.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Model, QuerySet

from admin_integrations import fleet, routing, vault
from admin_integrations.models import (
    Cooldown,
    Credential,
    Executor,
    Wish,
    Workflow,
    WorkflowBinding,
)
from genpulse.errors import FieldError, Problem, ValidationFailed, WorkflowFormatUi
from providers import registry
from providers.urls import origin_of
from providers.wire.comfy_workflow import WorkflowError, workflow_inputs

T = TypeVar("T", bound=Model)


class ExecutorTypeUnknown(Problem):
    """There is no provider of this name."""

    status, code = 400, "executor_type_unknown"


class ExecutorNameTaken(Problem):
    """An executor of this name exists."""

    status, code = 400, "executor_name_taken"


class ApiKeyNameTaken(Problem):
    """This provider has a key of this name."""

    status, code = 400, "api_key_name_taken"


class WorkflowVersionExists(Problem):
    """This version of the workflow exists."""

    status, code = 400, "workflow_version_exists"


class InvalidWorkflowOrExecutor(Problem):
    """A binding leads to exactly one workflow, model or ability that exists, on an executor that can run it."""

    status, code = 400, "invalid_workflow_or_executor"


def save_executor(executor: Executor, keys: Sequence[Credential] | None = None) -> None:
    """Write an executor; `keys` replaces its credentials, None keeps them. What was wrong with it is forgotten."""
    if executor.type not in {provider.name for provider in registry.all_providers()}:
        raise ExecutorTypeUnknown(f"There is no provider {executor.type!r}.")
    if executor.base_url:
        check_address(executor.base_url)
    if keys is None:
        keys = [] if executor._state.adding else list(executor.credentials.all())
    check_keys(executor, keys)
    if executor.status == Wish.ACTIVE:
        executor.removing = False
    with _once(ExecutorNameTaken(f"There is an executor {executor.name!r} already.")):
        executor.save()
        executor.credentials.set(keys)
        _bind(executor, keys)
        Cooldown.objects.filter(executor=executor, credential=None).delete()
    fleet.forget()


def ask_to_remove(executor: Executor) -> None:
    """It takes no new work and goes when what it has is done."""
    Executor.objects.filter(pk=executor.pk).update(status=Wish.DRAINING, removing=True)
    fleet.forget()


def check_address(url: str, field: str = "base_url") -> None:
    """Raises ValidationFailed unless it is a plain http(s) address."""
    try:
        origin_of(url)
    except ValueError as error:
        raise ValidationFailed.of(field, "format", str(error)) from None


def check_keys(executor: Executor, keys: Sequence[Credential]) -> None:
    """A key is for one provider and goes to one origin only, whoever asks."""
    for key in keys:
        if key.provider != executor.type:
            raise ValidationFailed.of(
                "api_key_ids", "choice", f"{key.name} is a key of {key.provider}"
            )
        if key.base_url and not _may_go(key, executor.base_url):
            raise ValidationFailed.of(
                "api_key_ids", "choice", f"{key.name} is bound to another address"
            )


def _may_go(key: Credential, base_url: str) -> bool:
    return not base_url or registry.same_origin(key.base_url, base_url)


def _bind(executor: Executor, keys: Sequence[Credential]) -> None:
    """A key without an origin belongs from now on to that of its first executor."""
    if executor.base_url:
        for key in keys:
            if not key.base_url:
                key.base_url = executor.base_url
                key.save(update_fields=["base_url", "updated_at"])


def save_key(key: Credential, secret: str | None = None, *, lifts: bool = False) -> None:
    """Write a credential; `secret` (None: as it was) is sealed for its row.

    A new secret or origin, or `lifts`, ends what the vendor had against the old one.
    """
    if key.base_url:
        check_address(key.base_url)
        for executor in [] if key._state.adding else Executor.objects.filter(credentials=key):
            check_keys(executor, [key])
    if secret is not None:
        key.ciphertext, key.last4 = vault.encrypt(secret, owner=key.pk), last4(secret)
    with _once(ApiKeyNameTaken(f"{key.provider} has a key {key.name!r} already.")):
        key.save()
        if lifts or secret is not None:
            Cooldown.objects.filter(credential=key).delete()
    fleet.forget()


def last4(secret: str) -> str:
    """What may be shown of it: nothing of a short one."""
    return secret[-4:] if len(secret) >= 12 else ""


def save_workflow(workflow: Workflow) -> None:
    """Write a workflow. Raises WorkflowVersionExists, WorkflowFormatUi, ValidationFailed."""
    for field in ("name", "version"):
        if "@" in getattr(workflow, field):
            raise ValidationFailed.of(field, "format", "@ stands between name and version")
    if workflow.type != Workflow.Kind.COZE and workflow.definition:
        check_definition(workflow)
    taken = WorkflowVersionExists(f"There is a workflow {workflow} already.")
    with _once(taken):
        workflow.save()
    routing.forget()


def check_definition(workflow: Workflow) -> None:
    """A ComfyUI definition must be in API format; of a generic one only the web-UI format is refused."""
    try:
        workflow_inputs(workflow.definition)
    except WorkflowError as error:
        field = f"definition{error.field.removeprefix('workflow')}"
        item = FieldError(field, error.problem, error.hint)
        if error.code == WorkflowFormatUi.code:
            raise WorkflowFormatUi(error.hint, errors=[item]) from None
        if workflow.type == Workflow.Kind.COMFYUI:
            raise ValidationFailed(f"{field}: {error.hint}", errors=[item]) from None


def save_binding(binding: WorkflowBinding) -> None:
    """Write a binding. Raises InvalidWorkflowOrExecutor."""
    targets = [name for name in ("workflow_id", "model", "ability_id") if getattr(binding, name)]
    if len(targets) != 1:
        raise InvalidWorkflowOrExecutor("Name exactly one of workflow_id, model and ability_id.")
    workflow = _one(Workflow, binding.workflow_id)
    executor = _one(Executor, binding.executor_id)
    if workflow and executor and workflow.type not in {Workflow.Kind.GENERIC, executor.type}:
        raise InvalidWorkflowOrExecutor(f"{executor.name} cannot run a {workflow.type} workflow.")
    binding.save()
    routing.forget()


def _one(model: type[T], id_: UUID | None) -> T | None:
    if id_ is None:
        return None
    row = QuerySet(model).filter(pk=id_).first()
    if row is None:
        raise InvalidWorkflowOrExecutor(f"There is no such {model._meta.verbose_name}.")
    return row


@contextmanager
def _once(taken: Problem) -> Iterator[None]:
    """The unique names of a row are left to the database, which alone knows of parallel writers."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError:
        raise taken from None
