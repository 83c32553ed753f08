"""The ledger and the price list.

A **Wallet** is what one account can spend (`available`) and what waits to be spent (`held`). A
**Hold** is credits frozen for one task. Every movement is one **Journal** row with **Entry** legs
that sum to zero: one leg for the customer, and one for the platform (`funding` pays deposits in,
`revenue` takes charges) whenever credits enter or leave the wallet. Platform accounts are never
rows that get updated, so that nothing but the customer's own wallet is ever contended.

Amounts are integers in micro-credits. Triggers (migration 0002) keep journal and entry append-only
and the legs balanced. Only `wallet.ledger` writes wallet, journal and entry.
"""

from django.db import models
from django.db.models import F, Q

from genpulse.ids import new_id


class Wallet(models.Model):
    """`deposited` and `charged` are running totals; `last_seq` counts the entries of the account."""

    account = models.OneToOneField(
        "accounts.Account", primary_key=True, on_delete=models.PROTECT, related_name="wallet"
    )
    available = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    deposited = models.BigIntegerField(default=0)
    charged = models.BigIntegerField(default=0)
    last_seq = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(available__gte=0), name="wallet_available_covered"),
            models.CheckConstraint(condition=Q(held__gte=0), name="wallet_held_covered"),
        ]

    def __str__(self) -> str:
        return f"wallet of {self.account_id}"


class HoldStatus(models.TextChoices):
    OPEN = "open"
    CONFIRMED = "confirmed"
    RELEASED = "released"


class Hold(models.Model):
    """Credits frozen for one task, resolved exactly once. `reference` is a client's own id for it."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    # No foreign key in the database here and in Entry: the wallet that every movement updates has it,
    # and checking it again would lock the account row once for each hold and each leg.
    account = models.ForeignKey(
        "accounts.Account",
        on_delete=models.PROTECT,
        related_name="holds",
        db_index=False,
        db_constraint=False,
    )
    # Plain ids: tasks lie above this layer.
    task_id = models.UUIDField(null=True, unique=True)
    batch_id = models.UUIDField(null=True)
    amount = models.BigIntegerField()
    status = models.CharField(max_length=9, choices=HoldStatus, default=HoldStatus.OPEN)
    charged = models.BigIntegerField(default=0)
    reference = models.CharField(max_length=128, blank=True, default="")
    expires_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField()
    resolved_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["account", "id"], name="hold_by_account"),
            models.Index(
                fields=["expires_at"],
                name="hold_expiring",
                condition=Q(status="open", expires_at__isnull=False),
            ),
        ]
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="hold_amount_positive"),
            models.CheckConstraint(
                condition=Q(charged__gte=0, charged__lte=F("amount")), name="hold_charge_covered"
            ),
            models.CheckConstraint(
                condition=Q(status="open", resolved_at=None, charged=0)
                | Q(status="confirmed", resolved_at__isnull=False)
                | Q(status="released", resolved_at__isnull=False, charged=0),
                name="hold_status_consistent",
            ),
            # A released hold that no task took leaves its reference free.
            models.UniqueConstraint(
                fields=["account", "reference"],
                name="hold_reference_once",
                condition=~Q(reference="") & (~Q(status="released") | Q(task_id__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.status} hold {self.id}"


class JournalKind(models.TextChoices):
    DEPOSIT = "deposit"
    ADJUSTMENT = "adjustment"
    HOLD = "hold"
    CHARGE = "charge"
    RELEASE = "release"


class Journal(models.Model):
    """One movement, never changed. `idem` (or "") makes a repeated deposit the same deposit."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(max_length=10, choices=JournalKind)
    hold = models.ForeignKey(Hold, null=True, on_delete=models.PROTECT, db_index=False)
    idem = models.CharField(max_length=200, blank=True, default="")
    reason = models.CharField(max_length=200, blank=True, default="")
    reference = models.CharField(max_length=128, blank=True, default="")
    actor = models.CharField(max_length=128, blank=True, default="")
    task_id = models.UUIDField(null=True)
    batch_id = models.UUIDField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(
                fields=["task_id"], name="journal_by_task", condition=Q(task_id__isnull=False)
            )
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(kind__in=["hold", "charge", "release"], hold__isnull=False)
                | Q(kind__in=["deposit", "adjustment"], hold__isnull=True),
                name="journal_kind_has_hold",
            ),
            models.UniqueConstraint(
                fields=["idem"], name="journal_idem_once", condition=~Q(idem="")
            ),
            models.UniqueConstraint(
                fields=["hold"], name="journal_one_freeze", condition=Q(kind="hold")
            ),
            models.UniqueConstraint(
                fields=["hold"],
                name="journal_one_resolution",
                condition=Q(kind__in=["charge", "release"]),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"


class Entry(models.Model):
    """One leg: of a customer (account, with its gapless `account_seq` and balances) or the platform."""

    id = models.BigAutoField(primary_key=True)
    journal = models.ForeignKey(Journal, on_delete=models.PROTECT, related_name="entries")
    account = models.ForeignKey(
        "accounts.Account",
        null=True,
        on_delete=models.PROTECT,
        related_name="+",
        db_index=False,
        db_constraint=False,
    )
    platform = models.CharField(max_length=8, blank=True, default="")
    account_seq = models.BigIntegerField(null=True)
    available_change = models.BigIntegerField()
    held_change = models.BigIntegerField(default=0)
    available_after = models.BigIntegerField(null=True)
    held_after = models.BigIntegerField(null=True)
    created_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(
                fields=["account", "created_at"],
                name="entry_by_time",
                condition=Q(account__isnull=False),
            )
        ]
        constraints = [
            models.UniqueConstraint(
                fields=["account", "account_seq"],
                name="entry_account_seq_once",
                condition=Q(account__isnull=False),
            ),
            models.CheckConstraint(
                condition=Q(
                    platform="",
                    account__isnull=False,
                    account_seq__isnull=False,
                    account_seq__gt=0,
                    available_after__isnull=False,
                    available_after__gte=0,
                    held_after__isnull=False,
                    held_after__gte=0,
                )
                | Q(
                    platform__in=["funding", "revenue"],
                    account=None,
                    account_seq=None,
                    available_after=None,
                    held_after=None,
                    held_change=0,
                ),
                name="entry_one_side",
            ),
            models.CheckConstraint(
                condition=~Q(available_change=0, held_change=0), name="entry_moves_something"
            ),
        ]

    def __str__(self) -> str:
        return (
            f"{self.available_change:+} {self.held_change:+} of {self.account_id or self.platform}"
        )

    @property
    def available_before(self) -> int:
        return (self.available_after or 0) - self.available_change

    @property
    def charged(self) -> int:
        """Micro-credits that left the customer's wallet for good."""
        change = self.available_change + self.held_change
        return -change if self.journal.kind == JournalKind.CHARGE else 0


class PriceKind(models.TextChoices):
    SALE = "sale"
    COST = "cost"


class MatchBy(models.TextChoices):
    ABILITY = "ability"
    MODEL = "model"
    PROVIDER = "provider"


class PriceRule(models.Model):
    """One version of a price. An edit supersedes it by a new row; a task keeps a copy of its own.

    `rule_id` is the public id, the same over all versions. `components` is what the API shows:
    `[{"unit": "image", "price": "1"}]`, prices in credits.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    rule_id = models.UUIDField(default=new_id, editable=False)
    version = models.PositiveIntegerField(default=1)
    current = models.BooleanField(default=True)
    kind = models.CharField(max_length=4, choices=PriceKind, default=PriceKind.SALE)
    match_by = models.CharField(max_length=8, choices=MatchBy)
    match_value = models.CharField(max_length=200)
    task_type = models.CharField(max_length=32, blank=True, default="")
    components = models.JSONField()
    minimum = models.BigIntegerField(default=0)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rule_id", "version"], name="price_version_once"),
            models.UniqueConstraint(
                fields=["rule_id"], name="price_one_current", condition=Q(current=True)
            ),
            models.CheckConstraint(condition=Q(minimum__gte=0), name="price_minimum_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.match_by} {self.match_value} v{self.version}"
