"""Who owns things and who may act: Account (the tenant), User, ApiKey.

An Account owns tasks, assets, wallets and events; it is what "tenant" means in fair sharing and limits.
Each user has exactly one account of the same name, so team accounts can come later without touching
an owner column. An ApiKey belongs to a user; the key itself is shown once and stored as a keyed hash.
"""

from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from genpulse.ids import new_id


class Account(models.Model):
    """The tenant: owner of everything, unit of fair sharing, limits and money."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(max_length=128, unique=True)
    weight = models.PositiveSmallIntegerField(default=1)
    max_concurrency = models.PositiveIntegerField(null=True, blank=True)
    max_waiting = models.PositiveIntegerField(null=True, blank=True)
    budget_amount = models.BigIntegerField(null=True, blank=True)
    budget_window = models.CharField(max_length=5, null=True, blank=True)  # noqa: DJ001 - null: no budget
    uploads_blocked = models.BooleanField(default=False)
    uploads_blocked_reason = models.CharField(max_length=200, blank=True, db_default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(weight__gt=0), name="account_weight_positive"),
            models.CheckConstraint(
                condition=Q(budget_window__in=["day", "month"]) | Q(budget_window=None),
                name="account_budget_window",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    USER = "user"
    ADMIN = "admin"


class UserManager(BaseUserManager["User"]):
    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(name=username)


class User(AbstractBaseUser):
    """A person or an application that signs in; `name` is what `userId` carries at every door."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    account = models.OneToOneField(Account, on_delete=models.PROTECT, related_name="user")
    name = models.CharField(max_length=128, unique=True)
    email = models.EmailField(null=True, blank=True, unique=True)
    role = models.CharField(max_length=8, choices=Role, default=Role.USER)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    objects: ClassVar[UserManager] = UserManager()
    USERNAME_FIELD = "name"
    REQUIRED_FIELDS = ["email"]

    def __str__(self) -> str:
        return self.name

    @property
    def is_staff(self) -> bool:
        """Django admin asks this; operators are users of role admin."""
        return self.role == Role.ADMIN

    @property
    def is_superuser(self) -> bool:
        return self.is_staff

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return self.is_active and self.is_staff

    def has_module_perms(self, app_label: str) -> bool:
        return self.is_active and self.is_staff


class ApiKey(models.Model):
    """A customer's key: `gp_live_` + 8 look-up + 43 secret + 6 checksum characters (base62).

    Only the look-up part and a keyed hash of the secret are stored.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=64)
    lookup = models.CharField(max_length=8, unique=True)
    digest = models.BinaryField(max_length=32)
    last4 = models.CharField(max_length=4)
    scopes = ArrayField(models.CharField(max_length=32))
    expires_at = models.DateTimeField(null=True, blank=True)
    allowed_ips = ArrayField(models.CharField(max_length=64), default=list, blank=True)
    model_patterns = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    budget_amount = models.BigIntegerField(null=True, blank=True)
    budget_window = models.CharField(max_length=5, null=True, blank=True)  # noqa: DJ001
    max_concurrency = models.PositiveIntegerField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["user", "-created_at"])]

    def __str__(self) -> str:
        return f"{self.name} (gp_live_{self.lookup}...)"


class SpentToken(models.Model):
    """A single-use token that was used; kept until it would have expired anyway."""

    jti = models.UUIDField(primary_key=True)
    mark = models.UUIDField(
        default=new_id
    )  # tells the caller that used it from those who came late
    expires_at = models.DateTimeField(db_index=True)

    def __str__(self) -> str:
        return str(self.jti)
