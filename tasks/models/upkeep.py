"""Who is alive, what is done from time to time, and what could not be done."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from genpulse.ids import new_id


class Worker(models.Model):
    """A worker process, renewed by its heartbeat."""

    name = models.CharField(max_length=100, primary_key=True)
    queues = ArrayField(models.CharField(max_length=50))
    threads = models.PositiveIntegerField()
    free = models.PositiveIntegerField()
    draining = models.BooleanField(default=False)
    quarantine = models.BooleanField(default=False)
    started_at = models.DateTimeField(db_default=Now())
    last_seen = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.name


class OrchestratorLease(models.Model):
    """Who admits. One row; every admit transaction begins with a conditional UPDATE of it."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1)
    holder = models.CharField(max_length=100, blank=True)
    epoch = models.BigIntegerField(default=0)
    until = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(id=1), name="orchestrator_lease_single")]

    def __str__(self) -> str:
        return f"{self.holder} ({self.epoch})"


class Chore(models.Model):
    """Periodic work, claimed like any other row; there is no scheduler process."""

    name = models.CharField(max_length=50, primary_key=True)
    every = models.FloatField()  # seconds
    last_run = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=300, blank=True)

    def __str__(self) -> str:
        return self.name


class Erasure(models.Model):
    """What a user had made until `before` is removed; the row goes when nothing of it is left."""

    account = models.OneToOneField("accounts.Account", primary_key=True, on_delete=models.CASCADE)
    before = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return str(self.account_id)


class DeadLetter(models.Model):
    """A broker message nobody could read, or an outcome that could not be recorded."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    source = models.CharField(max_length=50)
    original_id = models.CharField(max_length=200, blank=True)
    error = models.CharField(max_length=500)
    raw_payload = models.TextField(blank=True)  # <= 4 KiB
    failed_at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return f"{self.source}: {self.error}"
