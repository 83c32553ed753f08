"""What operators configure: executors, vendor credentials, workflows, bindings, cooldowns, family states.

`Executor.status` is the operator's wish. Everything else that means "do not send there now" is a
`Cooldown`; health words, open circuits and exhausted credentials are read from that one table.
"""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from genpulse.ids import new_id


class Dispatch(models.TextChoices):
    CELERY = "celery"
    PULL = "pull"  # handed out by the agent's own waiting request


class Wish(models.TextChoices):
    """What the operator wants of an executor."""

    ACTIVE = "active"
    PAUSED = "paused"
    DRAINING = "draining"
    INACTIVE = "inactive"


class Executor(models.Model):
    """A server or vendor account that runs work."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=100, unique=True)
    type = models.CharField(max_length=50, help_text="provider name")
    base_url = models.CharField(max_length=500, blank=True)
    dispatch = models.CharField(max_length=8, choices=Dispatch, default=Dispatch.CELERY)
    status = models.CharField(max_length=8, choices=Wish, default=Wish.ACTIVE)
    removing = models.BooleanField(
        default=False, db_default=False
    )  # gone as soon as its work has ended
    weight = models.PositiveIntegerField(default=1)
    max_concurrency = models.PositiveIntegerField(default=1)
    region = models.CharField(max_length=50, blank=True)
    tags = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    config = models.JSONField(default=dict, blank=True)
    credentials: "models.ManyToManyField[Credential, Any]" = models.ManyToManyField(
        "Credential", blank=True, related_name="executors"
    )
    # What the last inventory and probe said.
    known_models = ArrayField(models.CharField(max_length=200), null=True, blank=True)
    known_nodes = ArrayField(models.CharField(max_length=200), null=True, blank=True)
    loaded_model = models.CharField(max_length=200, blank=True)
    version = models.CharField(max_length=100, blank=True)
    login = models.CharField(max_length=16, default="not_applicable")
    health_message = models.CharField(max_length=500, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    last_heartbeat_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(max_concurrency__gt=0), name="executor_has_slots")
        ]

    def __str__(self) -> str:
        return self.name


class Credential(models.Model):
    """A vendor key, encrypted at rest and bound to one origin; administration calls it an api key."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        DISABLED = "disabled"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    provider = models.CharField(max_length=50)
    name = models.CharField(max_length=100)
    ciphertext = models.TextField()
    last4 = models.CharField(max_length=4)
    base_url = models.CharField(max_length=500, blank=True, help_text="origin it is bound to")
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    daily_quota = models.PositiveIntegerField(null=True, blank=True)
    max_concurrency = models.PositiveIntegerField(null=True, blank=True)
    expire_at = models.DateTimeField(null=True, blank=True)
    usage_count = models.BigIntegerField(default=0)
    used_today = models.IntegerField(default=0)
    used_on = models.DateField(null=True, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["provider", "name"], name="credential_name_once")
        ]

    def __str__(self) -> str:
        return f"{self.provider}/{self.name}"


class Cooldown(models.Model):
    """Do not send there until `until`. Null credential or model means all of them.

    `probing`: the time has passed and one task was let through (half-open); its end decides.
    `strikes`: how often in a row, so that the pause can double.
    """

    id = models.BigAutoField(primary_key=True)
    executor = models.ForeignKey(
        Executor, null=True, on_delete=models.CASCADE, related_name="cooldowns"
    )
    credential = models.ForeignKey(
        Credential, null=True, on_delete=models.CASCADE, related_name="cooldowns"
    )
    model = models.CharField(max_length=200, blank=True)
    reason = models.CharField(max_length=40)
    until = models.DateTimeField(null=True)
    probing = models.BooleanField(default=False)
    strikes = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["executor", "credential", "model"],
                name="cooldown_once",
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.reason} until {self.until}"


class FamilyState(models.Model):
    """The operator's wish for a family, and the level clocks of its fair share. `*` is every family."""

    class State(models.TextChoices):
        ACTIVE = "active"
        PAUSED = "paused"
        DRAINING = "draining"

    name = models.CharField(max_length=50, primary_key=True)
    state = models.CharField(max_length=8, choices=State, default=State.ACTIVE)
    reason = models.CharField(max_length=200, blank=True)
    changed_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.name}: {self.state}"


class Workflow(models.Model):
    """A versioned, runnable definition: ComfyUI API JSON, a Coze workflow, or generic defaults."""

    class Kind(models.TextChoices):
        GENERIC = "generic"
        COMFYUI = "comfyui"
        COZE = "coze"

    class Status(models.TextChoices):
        ACTIVE = "active"
        INACTIVE = "inactive"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    action = models.CharField(max_length=64, blank=True)
    name = models.CharField(max_length=100)
    version = models.CharField(max_length=40, default="v1")
    type = models.CharField(max_length=10, choices=Kind, default=Kind.GENERIC)
    status = models.CharField(max_length=10, choices=Status, default=Status.INACTIVE)
    definition = models.JSONField(default=dict, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["name", "version"], name="workflow_version_once")
        ]

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class WorkflowBinding(models.Model):
    """Which workflow, model or ability an action means, and where it runs."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    action = models.CharField(max_length=64, db_index=True)
    workflow = models.ForeignKey(Workflow, null=True, blank=True, on_delete=models.CASCADE)
    executor = models.ForeignKey(Executor, null=True, blank=True, on_delete=models.CASCADE)
    model = models.CharField(max_length=200, blank=True)
    ability_id = models.UUIDField(null=True, blank=True)
    priority = models.IntegerField(default=0)
    weight = models.PositiveIntegerField(default=1)
    enabled = models.BooleanField(default=True)
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return f"{self.action} -> {self.workflow or self.model or self.ability_id}"
