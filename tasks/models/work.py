"""What was asked for, and every try at it."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex, GinIndex
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from genpulse.ids import new_id
from tasks.models.order import Route
from tasks.models.states import TERMINAL, Priority, Stage, Status


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
