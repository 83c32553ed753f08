"""Django admin's pages for what operators configure, under the rules of the API. No secret is ever shown."""

from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest

from admin_integrations import condition, editing, fleet, routing
from admin_integrations.models import (
    Cooldown,
    Credential,
    Executor,
    FamilyState,
    Workflow,
    WorkflowBinding,
)
from genpulse.errors import Problem

if TYPE_CHECKING:
    AnyForm = forms.ModelForm[Any]
    AnyPages = admin.ModelAdmin[Any]
else:
    AnyForm, AnyPages = forms.ModelForm, admin.ModelAdmin


class RuledForm(AnyForm):
    """What `write` would refuse is shown as an error of the form."""

    def write(self) -> None:
        raise NotImplementedError

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]
        if self.errors:
            return
        adding = self.instance._state.adding
        try:
            with transaction.atomic():
                self.write()
                transaction.set_rollback(True)  # only a rehearsal
        except Problem as problem:
            self.add_error(None, problem.detail)
        self.instance._state.adding = adding


class RuledPages(AnyPages):
    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        form.write()


class ExecutorForm(RuledForm):
    class Meta:
        model = Executor
        fields = (
            "name",
            "type",
            "base_url",
            "dispatch",
            "status",
            "weight",
            "max_concurrency",
            "region",
            "tags",
            "config",
            "credentials",
        )

    def write(self) -> None:
        editing.save_executor(self.instance, list(self.cleaned_data["credentials"].all()))


@admin.register(Executor)
class ExecutorAdmin(RuledPages):
    form = ExecutorForm
    list_display = ("name", "type", "status", "removing", "health", "weight", "max_concurrency")
    list_filter = ("type", "status")
    search_fields = ("name", "base_url")
    readonly_fields = ("health", "health_message", "version", "login", "checked_at")
    actions = ("remove",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("cooldowns")

    @admin.display
    def health(self, executor: Executor) -> str:
        return condition.word(executor)

    @admin.action(description="Remove the chosen executors; busy ones when their work is done")
    def remove(self, request: HttpRequest, queryset: QuerySet[Executor]) -> None:
        for executor in queryset:
            editing.ask_to_remove(executor)

    def has_delete_permission(self, request: HttpRequest, obj: Executor | None = None) -> bool:
        return False


class CredentialForm(RuledForm):
    new_key = forms.CharField(
        required=False,
        widget=forms.PasswordInput,
        help_text="Empty: unchanged. It is stored encrypted and never shown again.",
    )

    class Meta:
        model = Credential
        fields = (
            "provider",
            "name",
            "base_url",
            "status",
            "daily_quota",
            "max_concurrency",
            "expire_at",
            "metadata",
        )

    def clean_new_key(self) -> str:
        key: str = self.cleaned_data["new_key"].strip()
        if not key and self.instance._state.adding:
            raise forms.ValidationError("A new credential needs its key.")
        return key

    def write(self) -> None:
        lifts = self.instance.status == Credential.Status.ACTIVE
        editing.save_key(self.instance, self.cleaned_data["new_key"] or None, lifts=lifts)


@admin.register(Credential)
class CredentialAdmin(RuledPages):
    form = CredentialForm
    list_display = ("__str__", "masked", "state", "daily_quota", "usage_count")
    list_filter = ("provider", "status")
    search_fields = ("name", "provider")
    readonly_fields = ("masked", "usage_count", "used_today", "used_on")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("cooldowns")

    @admin.display(description="key")
    def masked(self, key: Credential) -> str:
        return f"****{key.last4}"

    @admin.display
    def state(self, key: Credential) -> str:
        return condition.key_status(key)


class WorkflowForm(RuledForm):
    class Meta:
        model = Workflow
        fields = ("action", "name", "version", "type", "status", "definition", "metadata")

    def write(self) -> None:
        editing.save_workflow(self.instance)


@admin.register(Workflow)
class WorkflowAdmin(RuledPages):
    form = WorkflowForm
    list_display = ("__str__", "type", "status", "updated_at")
    list_filter = ("type", "status")
    search_fields = ("name", "action")

    def delete_model(self, request: HttpRequest, obj: Workflow) -> None:
        obj.delete()
        routing.forget()


class BindingForm(RuledForm):
    class Meta:
        model = WorkflowBinding
        fields = (
            "action",
            "workflow",
            "executor",
            "model",
            "ability_id",
            "priority",
            "weight",
            "enabled",
            "metadata",
        )

    def write(self) -> None:
        editing.save_binding(self.instance)


@admin.register(WorkflowBinding)
class BindingAdmin(RuledPages):
    form = BindingForm
    list_display = ("__str__", "executor", "priority", "weight", "enabled")
    list_filter = ("enabled",)
    list_select_related = ("workflow", "executor")
    search_fields = ("action", "model")


@admin.register(Cooldown)
class CooldownAdmin(AnyPages):
    """Why nothing is sent somewhere now. Deleting one lifts it."""

    list_display = ("executor", "credential", "model", "reason", "until", "strikes")
    list_filter = ("reason",)
    list_select_related = ("executor", "credential")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Cooldown | None = None) -> bool:
        return False

    def delete_model(self, request: HttpRequest, obj: Cooldown) -> None:
        obj.delete()
        fleet.forget()


@admin.register(FamilyState)
class FamilyStateAdmin(AnyPages):
    """Wishes for families; `*` is every family. Deleting one resumes it."""

    list_display = ("name", "state", "reason", "changed_at")
    fields = ("name", "state", "reason")
