"""The database schema: whether it is the program's own, and bringing it there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from django.core.management import call_command
from django.db import connection
from django.db.migrations.loader import MigrationLoader

State = Literal["current", "older", "newer"]
LOCK = 0x47656E50756C7365  # "GenPulse"
# Short names for people and their tools. Made anew after migrations, which they would stand in the way of.
VIEWS = {
    "task_batches": "tasks_batch",
    "tasks": "tasks_task",
    "task_contents": "tasks_taskcontent",
    "task_attempts": "tasks_attempt",
    "task_events": "events_event",
    "task_assets": "media_asset",
    "executors": "admin_integrations_executor",
    "api_keys": "admin_integrations_credential",
    "workflows": "admin_integrations_workflow",
    "workflow_bindings": "admin_integrations_workflowbinding",
}


def state() -> State:
    """`older`: `genpulse init-db` must run; `newer`: a newer program ran it. Raises OperationalError."""
    loader = MigrationLoader(connection)
    applied = {key for key in loader.applied_migrations if key[0] in loader.migrated_apps}
    known = set(loader.disk_migrations)
    if applied - known:
        return "newer"
    return "older" if known - applied else "current"


def migrate() -> int:
    """Apply what is missing; several callers wait for each other. Returns how many were applied.

    Raises OperationalError, and RuntimeError when a newer program made the schema.
    """
    from admin_integrations import seeds  # needs Django's apps, which scripts set up late

    with _alone():
        before = len(MigrationLoader(connection).applied_migrations)
        found = state()
        if found == "newer":
            raise RuntimeError("the schema is newer than this program")
        if found == "older":
            _run(f"DROP VIEW IF EXISTS {', '.join(VIEWS)}")
            call_command("migrate", interactive=False, verbosity=0)
        for view, table in VIEWS.items():
            _run(f"CREATE OR REPLACE VIEW {view} AS SELECT * FROM {table}")  # noqa: S608 - our own names
        seeds.first_executors()
        return len(MigrationLoader(connection).applied_migrations) - before


def reset() -> None:
    """Drop every object of the database, and its data, for good."""
    _run("DROP SCHEMA public CASCADE")
    _run("CREATE SCHEMA public")


def names() -> list[str]:
    """Every table and view, sorted."""
    with connection.cursor() as cursor:
        return sorted(table.name for table in connection.introspection.get_table_list(cursor))


def _run(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


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
