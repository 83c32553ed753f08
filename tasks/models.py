"""The rows of the engine. PostgreSQL is the truth: a message lost, doubled or reordered changes nothing here.

Batch: parent of tasks. Task: the product noun, narrow and hot. TaskContent: its bodies, written twice.
Attempt: one try, with all vendor state. Route: tasks that are interchangeable for placement.
Share: how much a tenant has had of a level of a family. Worker, OrchestratorLease, Chore: who is alive
and who does what. Everything that changes a Task goes through `tasks.lifecycle.apply`.
"""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from genpulse.ids import new_id
from tasks.webhook_models import WebhookEndpoint, WebhookSecret  # noqa: F401 - Django looks here


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


class Batch(models.Model):
    """Several tasks asked for together."""

    class Mode(models.TextChoices):
        ALL = "all"
        RACE = "race"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey("accounts.Account", on_delete=models.CASCADE, db_index=False)
    key_id = models.UUIDField(null=True)
    mode = models.CharField(max_length=4, choices=Mode, default=Mode.ALL)
    source = models.CharField(max_length=16)
    title = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is what the API shows
    total = models.PositiveIntegerField()
    open = models.IntegerField()  # children that are not terminal
    winner_id = models.UUIDField(null=True)
    cancel_requested = models.BooleanField(default=False)
    metadata = models.JSONField(default=dict)
    tags = ArrayField(models.CharField(max_length=64), default=list)
    webhook = models.JSONField(null=True)
    conversation_id = models.CharField(max_length=128, null=True)  # noqa: DJ001
    hidden_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["account", "-id"], name="batch_by_account")]
        constraints = [
            models.CheckConstraint(
                condition=Q(open__gte=0) & Q(open__lte=models.F("total")),
                name="batch_open_in_range",
            )
        ]

    def __str__(self) -> str:
        return str(self.id)


class Conversation(models.Model):
    """A thread of turns. The turns are its tasks; this row hands out their indexes."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey("accounts.Account", on_delete=models.CASCADE, db_index=False)
    name = models.CharField(max_length=128)  # what clients call its id
    title = models.CharField(max_length=200, null=True)  # noqa: DJ001 - null is what the API shows
    metadata = models.JSONField(default=dict)
    turns = models.PositiveIntegerField(default=0)  # the next free index
    created_at = models.DateTimeField(db_default=Now())
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes = [models.Index(fields=["account", "-updated_at"], name="conversation_by_account")]
        constraints = [
            models.UniqueConstraint(fields=["account", "name"], name="conversation_name_once")
        ]

    def __str__(self) -> str:
        return self.name


class Route(models.Model):
    """Family + model or workflow + filter + credential class: one verdict serves all its tasks.

    `filter`: only, avoid, prefer (executor names), region, tags, and `tried` (executor ids that failed
    this work: avoided while anybody else could serve it).
    """

    id = models.BigAutoField(primary_key=True)
    key = models.CharField(max_length=64, unique=True)  # digest of all below
    family = models.CharField(max_length=50)
    provider = models.CharField(max_length=50)
    model = models.CharField(max_length=200, blank=True)
    workflow_id = models.UUIDField(null=True)
    action = models.CharField(max_length=64, blank=True)
    filter = models.JSONField(default=dict)
    blocked = models.CharField(max_length=40, blank=True)  # why nobody can serve it, or empty
    detail = models.CharField(max_length=300, blank=True)
    verdicts = models.JSONField(default=list)  # one per executor of the provider, for `explain`
    evaluated_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.family}/{self.model or self.workflow_id}"


class Share(models.Model):
    """Stride scheduling: how far a tenant's clock has run in one level of one provider's executors."""

    pk = models.CompositePrimaryKey("provider", "level", "account")
    provider = models.CharField(max_length=50)
    level = models.PositiveSmallIntegerField()
    account = models.ForeignKey("accounts.Account", on_delete=models.CASCADE)
    clock = models.FloatField(default=0)

    def __str__(self) -> str:
        return f"{self.provider}/{self.level}"


class LevelClock(models.Model):
    """By executor id: the clocks of its levels (6:3:1). By provider: the floors tenants back from idle start at."""

    pk = models.CompositePrimaryKey("name", "level")
    name = models.CharField(max_length=50)
    level = models.PositiveSmallIntegerField()
    clock = models.FloatField(default=0)

    def __str__(self) -> str:
        return f"{self.name}/{self.level}"


class Task(models.Model):
    """One piece of generative work. Narrow, because its row is rewritten at every transition."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.ForeignKey("accounts.Account", on_delete=models.CASCADE, db_index=False)
    key_id = models.UUIDField(null=True)
    batch = models.ForeignKey(Batch, null=True, on_delete=models.CASCADE, db_index=False)
    batch_index = models.PositiveIntegerField(null=True)
    superseded = models.BooleanField(default=False)  # a retry took its place in the batch
    route = models.ForeignKey(Route, on_delete=models.PROTECT, db_index=False)
    family = models.CharField(max_length=50)
    provider = models.CharField(max_length=50)
    model = models.CharField(max_length=200, null=True)  # noqa: DJ001
    task_type = models.CharField(max_length=20)
    source = models.CharField(max_length=16)
    external_id = models.CharField(max_length=64, null=True)  # noqa: DJ001 - the client's own id
    conversation_id = models.CharField(max_length=128, null=True)  # noqa: DJ001
    retry_of = models.UUIDField(null=True)
    cloned_from = models.UUIDField(null=True)
    tags = ArrayField(models.CharField(max_length=64), default=list)

    status = models.CharField(max_length=9, choices=Status, default=Status.QUEUED)
    priority = models.PositiveSmallIntegerField(choices=Priority, default=Priority.DEFAULT)
    ready = models.BooleanField(default=True)  # false: `due_at` lies ahead
    due_at = models.DateTimeField(null=True)  # run_at, or the time of the next try
    rank = models.BigIntegerField(default=0)  # promoted tasks have a lower one
    attempt = models.PositiveIntegerField(default=0)  # the fencing token
    tries = models.PositiveIntegerField(default=0)  # attempts that ended with an error that counts
    here = models.PositiveSmallIntegerField(default=0)  # ... in a row at the present executor
    crashes = models.PositiveSmallIntegerField(
        default=0
    )  # workers that died under it before acceptance
    alone_crashes = models.PositiveSmallIntegerField(default=0)  # ... while it ran alone
    waited = models.FloatField(default=0)  # seconds asked for by rate limits, summed
    max_attempts = models.PositiveSmallIntegerField(default=5)
    cancel_requested = models.BooleanField(default=False)
    executor_id = models.UUIDField(null=True)
    executor = models.CharField(max_length=100, null=True)  # noqa: DJ001 - its name, present or last
    stream = models.BooleanField(default=False)

    hold_id = models.UUIDField(null=True)
    quoted = models.BigIntegerField(default=0)
    charged = models.BigIntegerField(default=0)
    vendor_cost = models.BigIntegerField(null=True)
    seq = models.PositiveIntegerField(default=0)  # last stored event
    phase = models.CharField(max_length=100, blank=True)  # storing, storage unavailable, ...

    run_at = models.DateTimeField(null=True)
    start_deadline = models.DateTimeField(null=True)
    complete_by = models.DateTimeField(null=True)
    timeout = models.PositiveIntegerField()  # seconds of running and awaiting, over all attempts
    ran = models.FloatField(default=0)  # seconds of them used up by ended attempts
    run_deadline = models.DateTimeField(null=True)
    store = models.BooleanField(default=True)
    retention = models.PositiveIntegerField(null=True)
    purge_at = models.DateTimeField(null=True)
    purged_at = models.DateTimeField(null=True)
    hidden_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(db_default=Now())
    blocked_at = models.DateTimeField(null=True)
    admitted_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["account", "-id"], name="task_by_account"),
            models.Index(
                fields=["route", "priority", "account", "rank", "id"],
                name="task_waiting",
                condition=Q(status=Status.QUEUED, ready=True),
            ),
            models.Index(
                fields=["due_at"],
                name="task_due",
                condition=Q(status=Status.QUEUED, ready=False),
            ),
            models.Index(fields=["route"], name="task_blocked", condition=Q(status=Status.BLOCKED)),
            models.Index(
                fields=["account"], name="task_open", condition=Q(finished_at__isnull=True)
            ),
            models.Index(
                fields=["status"],
                name="task_suspect",
                condition=Q(crashes__gte=2, finished_at__isnull=True),
            ),
            models.Index(
                fields=["start_deadline"],
                name="task_start_deadline",
                condition=Q(
                    status__in=[Status.QUEUED, Status.BLOCKED, Status.ADMITTED],
                    start_deadline__isnull=False,
                    started_at__isnull=True,
                ),
            ),
            models.Index(
                fields=["batch", "batch_index"],
                name="task_by_batch",
                condition=Q(batch__isnull=False),
            ),
            models.Index(
                fields=["account", "external_id"],
                name="task_by_external_id",
                condition=Q(external_id__isnull=False),
            ),
            models.Index(
                fields=["account", "conversation_id", "id"],
                name="task_by_conversation",
                condition=Q(conversation_id__isnull=False),
            ),
            models.Index(
                fields=["retry_of"], name="task_retry_of", condition=Q(retry_of__isnull=False)
            ),
            models.Index(
                fields=["purge_at"], name="task_purge", condition=Q(purge_at__isnull=False)
            ),
            GinIndex(fields=["tags"], name="task_tags", condition=~Q(tags=[])),
            BrinIndex(fields=["finished_at"], name="task_finished", autosummarize=True),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(status__in=Status.values), name="task_status_is_known"
            ),
            models.CheckConstraint(
                condition=Q(
                    finished_at__isnull=True, status__in=[s for s in Status if s not in TERMINAL]
                )
                | Q(finished_at__isnull=False, status__in=TERMINAL),
                name="task_finished_iff_terminal",
            ),
            models.CheckConstraint(
                condition=Q(charged=0) | Q(status=Status.SUCCEEDED),
                name="task_charged_iff_succeeded",
            ),
            models.CheckConstraint(
                condition=Q(charged__lte=models.F("quoted")), name="task_charge_within_quote"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.status}"


class TaskContent(models.Model):
    """The bodies of a task. `store: false` and retention empty them; the Task row stays."""

    task = models.OneToOneField(Task, primary_key=True, on_delete=models.CASCADE)
    input = models.JSONField(null=True)
    options = models.JSONField(default=dict)  # webhook, models, executor wishes, ... as submitted
    metadata = models.JSONField(default=dict)
    prompt = models.TextField(blank=True)  # for the search of lists
    price = models.JSONField(default=dict)  # the quote it was made under
    output = models.JSONField(null=True)
    usage = models.JSONField(null=True)
    error = models.JSONField(null=True)

    def __str__(self) -> str:
        return str(self.task_id)


class Attempt(models.Model):
    """One try. `slot` is true while it occupies its executor, credential and tenant."""

    pk = models.CompositePrimaryKey("task", "number")
    task = models.ForeignKey(
        Task, on_delete=models.CASCADE, db_index=False, related_name="attempts"
    )
    number = models.PositiveIntegerField()
    account_id = models.UUIDField()
    key_id = models.UUIDField(null=True)
    family = models.CharField(max_length=50)
    provider = models.CharField(max_length=50)
    model = models.CharField(max_length=200, null=True)  # noqa: DJ001
    executor_id = models.UUIDField()
    executor = models.CharField(max_length=100)
    credential_id = models.UUIDField(null=True)
    stage = models.CharField(max_length=8, choices=Stage, default=Stage.ADMITTED)
    slot = models.BooleanField(default=True)
    alone = models.BooleanField(default=False)  # handed to the quarantine worker
    worker = models.CharField(max_length=100, blank=True)
    lease_until = models.DateTimeField(null=True)
    published_at = models.DateTimeField(null=True)
    progress = models.PositiveSmallIntegerField(default=0)
    phase = models.CharField(max_length=200, blank=True)
    submit_key = models.UUIDField()
    external_id = models.CharField(max_length=500, blank=True)
    accepted_at = models.DateTimeField(null=True)
    next_poll_at = models.DateTimeField(
        null=True
    )  # poll, find, fetch: whatever its stage needs next
    finds = models.PositiveSmallIntegerField(default=0)
    result = models.JSONField(null=True)  # the vendor's answer, until it is stored
    vendor_cost = models.BigIntegerField(null=True)
    possible_cost = models.BooleanField(default=False)
    late = models.BooleanField(default=False)  # it ended after its task
    outcome = models.CharField(max_length=10, blank=True)  # succeeded, failed, canceled, replaced
    error = models.JSONField(null=True)
    verdicts = models.JSONField(
        null=True
    )  # of all executors when it was chosen; null: it was the only one
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["executor_id"], name="attempt_slots", condition=Q(slot=True)),
            models.Index(
                fields=["next_poll_at"],
                name="attempt_due",
                condition=Q(next_poll_at__isnull=False),
            ),
            models.Index(
                fields=["executor_id", "model", "-finished_at"],
                name="attempt_runs",
                condition=Q(outcome="succeeded"),
            ),
            models.Index(fields=["-created_at"], name="attempt_late", condition=Q(late=True)),
            models.Index(
                fields=["-created_at"],
                name="attempt_possible_cost",
                condition=Q(possible_cost=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.task_id}#{self.number}"


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
