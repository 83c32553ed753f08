"""Who wants to be told, and every telling."""

from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from genpulse.ids import new_id


class WebhookEndpoint(models.Model):
    """A receiver of events of all objects of its account. Secrets are encrypted for this row.

    `failing_since`: the first failure since the last success.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey("accounts.Account", on_delete=models.CASCADE, db_index=False)
    url = models.CharField(max_length=2000)
    host = models.CharField(max_length=300)
    events = ArrayField(models.CharField(max_length=40))
    description = models.CharField(max_length=200, blank=True)
    enabled = models.BooleanField(default=True)
    disabled_reason = models.CharField(max_length=10, null=True)  # noqa: DJ001 - null is what the API shows
    ciphertext = models.TextField()
    previous_ciphertext = models.TextField(blank=True)
    previous_valid_until = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    last_success_at = models.DateTimeField(null=True)
    last_failure_at = models.DateTimeField(null=True)
    failing_since = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["account", "-id"], name="endpoint_by_account"),
            models.Index(fields=["account"], name="endpoint_enabled", condition=Q(enabled=True)),
        ]

    def __str__(self) -> str:
        return self.url


class WebhookSecret(models.Model):
    """What the webhooks named in tasks and batches of an account are signed with."""

    account: "models.OneToOneField[Any, Any]" = models.OneToOneField(
        "accounts.Account", primary_key=True, on_delete=models.CASCADE
    )
    ciphertext = models.TextField()
    previous_ciphertext = models.TextField(blank=True)
    previous_valid_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return str(self.account_id)


class Delivery(models.Model):
    """One webhook event for one receiver; written with the change, sent by the deliver loop."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey("accounts.Account", on_delete=models.CASCADE, db_index=False)
    endpoint_id = models.UUIDField(null=True)
    url = models.CharField(max_length=2000)
    host = models.CharField(max_length=300, default="")
    style = models.CharField(max_length=16, default="native")  # whose body: a dialect's or ours
    event_id = models.CharField(max_length=64)
    event_type = models.CharField(max_length=40)
    task_id = models.UUIDField(null=True)
    batch_id = models.UUIDField(null=True)
    seq = models.PositiveIntegerField(null=True)
    status = models.CharField(max_length=9, default="pending")
    attempts = models.PositiveSmallIntegerField(default=0)
    response_status = models.PositiveSmallIntegerField(null=True)
    response_ms = models.PositiveIntegerField(null=True)
    error = models.CharField(max_length=300, blank=True)
    body = models.JSONField(null=True)
    tries = models.JSONField(default=list)
    next_attempt_at = models.DateTimeField(null=True, db_default=Now())
    lease_until = models.DateTimeField(null=True)  # somebody sends it, or is about to
    sending = models.BooleanField(default=False)
    created_at = models.DateTimeField(db_default=Now())
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(
                fields=["host", "next_attempt_at"],
                name="delivery_due",
                condition=Q(status="pending"),
            ),
            models.Index(
                fields=["host"], name="delivery_leased", condition=Q(lease_until__isnull=False)
            ),
            models.Index(fields=["endpoint_id", "-id"], name="delivery_by_endpoint"),
            models.Index(fields=["account", "-id"], name="delivery_by_account"),
            models.Index(
                fields=["task_id"], name="delivery_by_task", condition=Q(task_id__isnull=False)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} -> {self.status}"
