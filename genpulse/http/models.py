"""Answers that were given under an Idempotency-Key, kept for 24 hours."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now


class Idempotency(models.Model):
    """Written in the transaction of the object, so that a refused request leaves its key free."""

    id = models.BigAutoField(primary_key=True)
    owner = models.CharField(
        max_length=128
    )  # the account's name: the account may be made later here
    route = models.CharField(max_length=255)
    key = models.CharField(max_length=255)
    fingerprint = models.BinaryField(max_length=32)
    object_id = models.UUIDField(null=True)
    status = models.PositiveSmallIntegerField(default=0)
    headers = models.JSONField(default=dict)
    body = models.TextField(null=True)  # noqa: DJ001 - null: too large, rebuilt from the object
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "route", "key"], name="idempotency_once")
        ]
        indexes = [BrinIndex(fields=["created_at"], name="idempotency_age", autosummarize=True)]

    def __str__(self) -> str:
        return f"{self.owner} {self.route}"
