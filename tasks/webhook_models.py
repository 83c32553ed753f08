"""Who wants to be told: endpoints of an account, and the secret its other webhooks are signed with."""

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
