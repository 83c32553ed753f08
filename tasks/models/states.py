"""The words for where a task stands, and an attempt with its vendor."""

from django.db import models


class Status(models.TextChoices):
    QUEUED = "queued"  # accepted, waits for its turn, its time or its retry
    BLOCKED = "blocked"  # nobody can serve it now; looked at again when executors change
    ADMITTED = "admitted"  # has a slot, on its way to a worker
    RUNNING = "running"  # a worker talks to the executor, or its result is being stored
    AWAITING = "awaiting"  # the vendor accepted it and works; no worker thread is held
    VERIFYING = "verifying"  # unknown whether the vendor accepted; never sent again blindly
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


TERMINAL = frozenset({Status.SUCCEEDED, Status.FAILED, Status.CANCELED, Status.EXPIRED})
WAITING = frozenset({Status.QUEUED, Status.BLOCKED})
ACTIVE = frozenset({Status.ADMITTED, Status.RUNNING, Status.AWAITING, Status.VERIFYING})


class Priority(models.IntegerChoices):
    CRITICAL = 0
    DEFAULT = 1
    LOW = 2


class Stage(models.TextChoices):
    """How far an attempt got with its vendor; recovery is decided by it."""

    ADMITTED = "admitted"  # published, nobody has claimed it
    CLAIMED = "claimed"  # a worker holds it, nothing was sent: run again
    SENDING = "sending"  # a paid request may have left: by the provider's `retry_submit`
    ACCEPTED = "accepted"  # the vendor has it: poll
    DONE = "done"  # the vendor's answer is here: store it, never generate again
    STORED = "stored"  # outputs are ours
    CLOSED = "closed"
