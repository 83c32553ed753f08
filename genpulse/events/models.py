"""Stored events, the lowest table of all: wallet, media, executors and tasks append to it.

Cursors are `(xid, id)`. Ids are taken before commit, so a plain `id > n` cursor skips the event of a
slower transaction; a replay therefore reads only below `pg_snapshot_xmin(pg_current_snapshot())`.
"""

from typing import Any

from django.db import models
from django.db.models import Func
from django.db.models.functions import Now


class Xid8Field(models.BigIntegerField):  # type: ignore[type-arg]
    """PostgreSQL's 64-bit transaction id, as an integer in Python."""

    def db_type(self, connection: Any) -> str:
        return "xid8"

    def from_db_value(self, value: Any, *_: Any) -> int | None:
        return None if value is None else int(value)


class CurrentXid(Func):
    function = "pg_current_xact_id"
    output_field = Xid8Field()


class OldestXid(Func):
    """The oldest transaction that is still open."""

    template = "pg_snapshot_xmin(pg_current_snapshot())"
    output_field = Xid8Field()


class Event(models.Model):
    """Something that happened to an owner's object. `account` null: operators only."""

    id = models.BigAutoField(primary_key=True)
    xid = Xid8Field(db_default=CurrentXid())
    floor = Xid8Field(db_default=OldestXid())  # when it was written; see `genpulse.events.cursors`
    account = models.ForeignKey(
        "accounts.Account", null=True, on_delete=models.CASCADE, db_index=False, related_name="+"
    )
    type = models.CharField(max_length=40)
    data = models.JSONField()
    at = models.DateTimeField()
    # Plain ids: tasks lie above this layer, and an event outlives nothing of theirs.
    task_id = models.UUIDField(null=True)
    batch_id = models.UUIDField(null=True)
    seq = models.PositiveIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["account", "xid", "id"], name="event_by_account"),
            models.Index(
                fields=["batch_id", "xid", "id"],
                name="event_by_batch",
                condition=models.Q(batch_id__isnull=False),
            ),
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["task_id", "seq"],
                name="event_seq_once",
                condition=models.Q(seq__isnull=False),
            )
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.task_id or ''} {self.seq or ''}"


class SysLog(models.Model):
    """An error of any process, when ENABLE_DB_LOG is on: the line of app.log as columns."""

    id = models.BigAutoField(primary_key=True)
    level = models.CharField(max_length=10)
    source = models.CharField(max_length=200)  # process and logger
    task_id = models.CharField(max_length=64, null=True)  # noqa: DJ001 - null: about no task
    message = models.TextField()
    stack_trace = models.TextField(null=True)  # noqa: DJ001 - null: no exception
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        db_table = "sys_logs"
        indexes = [models.Index(fields=["created_at"], name="sys_log_age")]

    def __str__(self) -> str:
        return f"{self.level} {self.message}"
