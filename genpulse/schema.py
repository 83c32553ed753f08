"""The database schema: whether it is the program's own, and bringing it there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

State = Literal["current", "older", "newer"]
LOCK = 0x47656E50756C7365  # "GenPulse"


def state() -> State:
    """`older`: `genpulse init-db` must run; `newer`: a newer program ran it. Raises OperationalError."""
    loader = MigrationLoader(connection)
    applied = {key for key in loader.applied_migrations if key[0] in loader.migrated_apps}
    known = set(loader.disk_migrations)
    if applied - known:
        return "newer"
    return "older" if known - applied else "current"


def migrate() -> int:
    """Apply what is missing; several callers wait for each other. Returns how many were applied."""
    with _alone():
        before = len(MigrationLoader(connection).applied_migrations)
        call_command("migrate", interactive=False, verbosity=0)
        return len(MigrationLoader(connection).applied_migrations) - before


@contextmanager
def _alone() -> Iterator[None]:
    """A session-level advisory lock, and no time limits while it is held."""
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute("SET lock_timeout = 0")
        cursor.execute("SET idle_in_transaction_session_timeout = 0")
        cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
    try:
        yield
    finally:
        connection.close()  # lets go of the lock and of the settings
