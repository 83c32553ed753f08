"""Users and keys: creation, look-up, acting for somebody, revocation, the one-time log-in."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from typing import TypedDict, Unpack, cast
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.db import IntegrityError, transaction
from django.db.models.functions import Now

from genpulse.auth import names, recent
from genpulse.auth.credentials import DEFAULT_SCOPES, Credential
from genpulse.auth.keys import NewKey
from genpulse.auth.models import Account, ApiKey, Role, User
from genpulse.auth.signals import access_ended, user_created
from genpulse.errors import AccountDisabled, UserMismatch, ValidationFailed


class AccountOptions(TypedDict, total=False):
    """Limits of the account; amounts in micro-credits."""

    max_concurrency: int | None
    max_waiting: int | None
    budget_amount: int | None
    budget_window: str | None
    uploads_blocked: bool


class UserChanges(TypedDict, total=False):
    """What may be changed of a user; a key that is missing stays as it is."""

    name: str
    email: str | None
    password: str | None
    role: str
    is_active: bool


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
    """A user with an account of the same name. Raises ValidationFailed: `name`, `email`."""
    check_name(name, "name")
    with _unique_or_refused():
        account = Account.objects.create(name=name, **limits)
        user = User(account=account, name=name, role=role)
        _apply(user, {"email": email, "password": password})
        user.save()
        user_created.send(User, user=user)
    return user


def change_user(user: User, changes: UserChanges, limits: AccountOptions) -> None:
    """Change what is named; a new password ends all log-ins. Raises ValidationFailed: `email`, `name`."""
    with _unique_or_refused():
        _apply(user, changes)
        user.save()
        for name, value in limits.items():
            setattr(user.account, name, value)
        user.account.save()
    recent.forget()
    if changes.keys() & {"password", "role", "is_active"}:
        _say_access_ended(user.id)


def _apply(user: User, changes: UserChanges) -> None:
    for name, value in changes.items():
        if name == "password":
            user.set_password(cast("str | None", value))
        elif name == "name":
            check_name(cast("str", value), "name")
            user.name = user.account.name = cast("str", value)
        else:
            setattr(user, name, value)
    user.email = user.email.lower() if user.email else None


@contextmanager
def _unique_or_refused() -> Iterator[None]:
    try:
        with transaction.atomic():
            yield
    except IntegrityError as error:
        constraint = getattr(getattr(error.__cause__, "diag", None), "constraint_name", None)
        field = "email" if "email" in (constraint or "") else "name"
        raise ValidationFailed.of(field, "unique", "is taken") from None


def find_user(name: str) -> User | None:
    return User.objects.select_related("account").filter(name=name).first()


def get_or_create_user(name: str) -> User:
    """The user `name`, made on first use; of parallel callers one creates, the others wait and read."""
    user = find_user(name)
    if user is not None:
        return user
    check_name(name)
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


def named_user(credential: Credential, name: str | None, field: str = "user") -> User:
    """The user whose data `credential` reads when it names `name` (None: its own).

    An unknown name is an unsaved user who owns nothing. Raises UserMismatch, ValidationFailed.
    """
    if name is None or _is_own(credential.user, name):
        return credential.user
    check_named(credential, name, field)
    return find_user(name) or User(name=name, account=Account(name=name))


def check_named(credential: Credential, name: str, field: str = "user") -> None:
    """Whether `credential` may name this user at all; asks no database.

    Raises UserMismatch, and ValidationFailed on `field` for a name no user can have.
    """
    if _is_own(credential.user, name):
        return
    if not credential.names_others:
        raise UserMismatch("This credential may act only for its own user.")
    check_name(name, field)


def acting_user(
    credential: Credential, name: str | None, field: str = "user", *, create: bool
) -> User:
    """As `named_user`, but for acting: a disabled user is refused with AccountDisabled.

    With `create` an unknown name becomes a user, in the caller's transaction when there is one.
    """
    user = named_user(credential, name, field)
    if not user.is_active:
        raise AccountDisabled
    return get_or_create_user(user.name) if create and user._state.adding else user


def _is_own(user: User, name: str) -> bool:
    return name in {user.name, str(user.id)} or (
        user.email is not None and name.lower() == user.email
    )


def check_name(name: str, field: str = "user") -> None:
    """Raises ValidationFailed on `field` for a name no user can have."""
    if not names.valid(name):
        raise ValidationFailed.of(
            field, "format", "want 1-128 of A-Z a-z 0-9 . _ @ : + -, not beginning with . or -"
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
    recent.forget()
    _say_access_ended(key.user_id, key.id)


def _say_access_ended(user_id: UUID, key_id: UUID | None = None) -> None:
    say = partial(access_ended.send, User, user_id=user_id, key_id=key_id)
    transaction.on_commit(say, robust=True)
