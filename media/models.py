"""Stored files: Asset (what exists) and Upload (what may be sent until it expires).

An upload becomes the asset of the same id, so finishing it twice cannot make two assets.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from genpulse.ids import new_id


class Kind(models.TextChoices):
    """What a user would call it; `file` is everything that is none of the others."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    TEXT = "text"
    FILE = "file"


class Origin(models.TextChoices):
    UPLOAD = "upload"  # sent to a media door
    RESULT = "result"  # made by a task
    INPUT = "input"  # was a data URI in a request


class Asset(models.Model):
    """A stored file of one account; the bytes under `key` exist before the row does.

    `deleted_at` set: gone for everybody, the bytes are still to be erased. `thumbnail_key` null: not
    made yet, empty: cannot be made.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey(
        "accounts.Account", on_delete=models.PROTECT, db_index=False, related_name="+"
    )
    key = models.TextField()
    thumbnail_key = models.TextField(null=True)  # noqa: DJ001 - null and empty differ, see above
    sha256 = models.CharField(max_length=64)
    content_type = models.CharField(max_length=100)
    kind = models.CharField(max_length=5, choices=Kind)
    size = models.BigIntegerField()
    width = models.PositiveIntegerField(null=True)
    height = models.PositiveIntegerField(null=True)
    duration_seconds = models.FloatField(null=True)
    filename = models.CharField(max_length=255)
    origin = models.CharField(max_length=6, choices=Origin)
    # Plain ids: tasks lie above this layer.
    task_id = models.UUIDField(null=True)
    batch_id = models.UUIDField(null=True)
    index = models.PositiveIntegerField(null=True)
    provenance = models.JSONField(default=dict)
    tags = ArrayField(models.CharField(max_length=64), default=list)
    metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            # Constraints rather than unique=True, which would add a second index for LIKE.
            models.UniqueConstraint(fields=["key"], name="asset_key_once"),
            models.UniqueConstraint(
                fields=["thumbnail_key"],
                name="asset_thumbnail_once",
                condition=Q(thumbnail_key__gt=""),
            ),
            models.CheckConstraint(condition=Q(size__gte=0), name="asset_size_positive"),
        ]
        indexes = [
            models.Index(
                fields=["account", "id"], name="asset_list", condition=Q(deleted_at__isnull=True)
            ),
            models.Index(
                fields=["account", "sha256"],
                name="asset_by_hash",
                condition=Q(deleted_at__isnull=True),
            ),
            models.Index(
                fields=["task_id", "index"],
                name="asset_by_task",
                condition=Q(task_id__isnull=False),
            ),
            models.Index(
                fields=["batch_id"], name="asset_by_batch", condition=Q(batch_id__isnull=False)
            ),
            models.Index(
                fields=["expires_at"], name="asset_expiry", condition=Q(expires_at__isnull=False)
            ),
            models.Index(
                fields=["deleted_at"], name="asset_to_erase", condition=Q(deleted_at__isnull=False)
            ),
            models.Index(
                fields=["id"],
                name="asset_without_thumbnail",
                condition=Q(kind__in=["image", "video"], thumbnail_key__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.filename}"


class Upload(models.Model):
    """A promise to send exactly one file of `size` bytes before `expires_at`."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey(
        "accounts.Account", on_delete=models.CASCADE, db_index=False, related_name="+"
    )
    filename = models.CharField(max_length=255)
    content_type = models.CharField(max_length=100)
    size = models.BigIntegerField()
    sha256 = models.CharField(max_length=64, default="")
    created_at = models.DateTimeField(db_default=Now())
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="upload_expiry")]

    def __str__(self) -> str:
        return self.filename
