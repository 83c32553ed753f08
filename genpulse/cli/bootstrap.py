"""The first start of an instance: its schema, the admin with a key, some credits to try things."""

from genpulse.cli.instance import Instance

ADMIN = "admin"
FIRST_CREDITS = 1000


def bring_up_to_date(instance: Instance) -> None:
    """Migrate, and make sure that `admin.key` opens the door. Needs Django; safe to repeat."""
    from genpulse import schema

    schema.migrate()
    if not _is_valid(instance.admin_key):
        instance.admin_key_file.touch(mode=0o600)
        instance.admin_key_file.write_text(_new_admin_key() + "\n")
    _first_credits()


def _is_valid(key: str) -> bool:
    from genpulse.auth import keys
    from genpulse.auth.models import ApiKey

    found = ApiKey.objects.filter(lookup=keys.lookup_of(key) or "", revoked_at=None).first()
    return found is not None and keys.matches(key, found.digest)


def _new_admin_key() -> str:
    from genpulse.auth import services

    admin = services.find_user(ADMIN) or services.create_user(ADMIN, role="admin")
    return services.create_key(admin, name="genpulse up", scopes=["admin"])[1]


def _first_credits() -> None:
    """Once for each database; production has no gifts."""
    from genpulse.auth.services import get_or_create_user
    from genpulse.config import config
    from genpulse.money import MICRO
    from wallet import services

    if config.production:
        return
    services.deposit(
        get_or_create_user(ADMIN).account_id,
        FIRST_CREDITS * MICRO,
        reason="first start",
        reference="first-start",
    )
