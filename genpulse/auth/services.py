"""Users and keys: creation, look-up, acting for somebody, revocation, the one-time log-in."""

from collections.abc import Collection
from datetime import datetime
from typing import TypedDict, Unpack

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from genpulse.auth import names
from genpulse.auth.credentials import DEFAULT_SCOPES, Credential
from genpulse.auth.keys import NewKey
from genpulse.auth.models import Account, ApiKey, Role, User
from genpulse.auth.signals import user_created
from genpulse.errors import AccountDisabled, UserMismatch, ValidationFailed


class AccountOptions(TypedDict, total=False):
    """Limits of the account; amounts in micro-credits."""

    max_concurrency: int | None
    max_waiting: int | None
    budget_amount: int | None
    budget_window: str | None


class KeyOptions(TypedDict, total=False):
    """Restrictions of a key; amounts in micro-credits."""

    expires_at: datetime | None
    allowed_ips: list[str]
    model_patterns: list[str]
    budget_amount: int | None
    budget_window: str | None
    max_concurrency: int | None


def create_user(
    name: str,
    *,
    email: str | None = None,
    password: str | None = None,
    role: str = Role.USER,
    **limits: Unpack[AccountOptions],
) -> User:
    """A user with an account of the same name. Raises ValidationFailed: `name`, `email` (unique, format)."""
    _check_name(name)
    try:
        with transaction.atomic():
            account = Account.objects.create(name=name, **limits)
            user = User.objects.create(
                account=account,
                name=name,
                email=email or None,
                role=role,
                password=make_password(password),
            )
            user_created.send(User, user=user)
    except IntegrityError as error:
        constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
        field = "email" if "email" in (constraint or "") else "name"
        raise ValidationFailed.of(field, "unique", "is taken") from None
    return user


def find_user(name: str) -> User | None:
    return User.objects.select_related("account").filter(name=name).first()


def get_or_create_user(name: str) -> User:
    """The user `name`, made on first use; of parallel callers one creates, the others wait and read."""
    user = find_user(name)
    if user is not None:
        return user
    _check_name(name)
    with transaction.atomic():
        account = Account(name=name)
        if not _insert_account(account):
            return User.objects.select_related("account").get(name=name)
        user = User.objects.create(account=account, name=name, password=make_password(None))
        user_created.send(User, user=user)
    return user


def _insert_account(account: Account) -> bool:
    """False when a parallel transaction was first; it has committed by then."""
    Account.objects.bulk_create([account], ignore_conflicts=True)
    return Account.objects.filter(pk=account.pk).exists()


def named_user(credential: Credential, name: str | None) -> User:
    """The user whose data `credential` reads when it names `name` (None: its own).

    An unknown name is an unsaved user who owns nothing. Raises UserMismatch, ValidationFailed.
    """
    if name is None or _is_own(credential.user, name):
        return credential.user
    if not credential.names_others:
        raise UserMismatch("This credential may act only for its own user.")
    _check_name(name)
    return find_user(name) or User(name=name, account=Account(name=name))


def acting_user(credential: Credential, name: str | None, *, create: bool) -> User:
    """As `named_user`, but for acting: a disabled user is refused with AccountDisabled.

    With `create` an unknown name becomes a user, in the caller's transaction when there is one.
    """
    user = named_user(credential, name)
    if not user.is_active:
        raise AccountDisabled
    return get_or_create_user(user.name) if create and user._state.adding else user


def _is_own(user: User, name: str) -> bool:
    return name in {user.name, str(user.id)} or (user.email is not None and name == user.email)


def _check_name(name: str) -> None:
    if not names.valid(name):
        raise ValidationFailed.of(
            "user", "format", "want 1-128 of A-Z a-z 0-9 . _ @ : + -, not beginning with . or -"
        )


def create_key(
    user: User,
    *,
    name: str,
    scopes: Collection[str] = DEFAULT_SCOPES,
    **options: Unpack[KeyOptions],
) -> tuple[ApiKey, str]:
    """The stored key and its text, which is known only here and now."""
    new = NewKey.generate()
    key = ApiKey.objects.create(
        user=user,
        name=name,
        lookup=new.lookup,
        digest=new.digest,
        last4=new.text[-4:],
        scopes=sorted(set(scopes)),
        **options,
    )
    return key, new.text


def revoke_key(key: ApiKey) -> None:
    """Refused from now on here, and within a second by every other process. Idempotent."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=Now())
    key.refresh_from_db(fields=["revoked_at"])
