"""An empty database after each test that commits, in milliseconds: Django's flush takes a quarter of a second.

What migrations made (prices, permissions) stays, all else goes.
"""

import time
from functools import cache

from django.db import OperationalError, connection, transaction

MADE_BY_MIGRATIONS = {"auth_permission", "django_content_type", "wallet_pricerule"}
REMEMBERED = {"tasks_route", "tasks_chore", "tasks_worker", "tasks_orchestratorlease"}
APPEND_ONLY = ("wallet_journal", "wallet_entry")
HANG_UP = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
"""


def empty(*, running: bool) -> None:
    """`running`: processes work on this database; the rows that they remember stay."""
    for _ in range(9):
        try:
            return execute(emptying(running=running))
        except OperationalError:  # running processes lock tables in other orders
            time.sleep(0.1)
    return execute(emptying(running=running))


def execute(statements: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statements)


@cache
def emptying(*, running: bool) -> str:
    known = connection.introspection.django_table_names(only_existing=True)
    tables = sorted(set(known) - MADE_BY_MIGRATIONS - (REMEMBERED if running else set()))
    statements = [
        f"LOCK TABLE {', '.join(tables)} IN EXCLUSIVE MODE",  # nothing is written meanwhile
        *(f"ALTER TABLE {table} DISABLE TRIGGER USER" for table in APPEND_ONLY),
        *(f"DELETE FROM {table}" for table in tables),  # noqa: S608 - our own tables
        "DELETE FROM wallet_pricerule WHERE match_value NOT LIKE 'sandbox%'",
        "SET CONSTRAINTS ALL IMMEDIATE",
        *(f"ALTER TABLE {table} ENABLE TRIGGER USER" for table in APPEND_ONLY),
    ]
    return ";".join(statements)


def hang_up() -> None:
    """Sessions of processes live a moment longer than these, and keep the database from being dropped."""
    with connection.cursor() as cursor:
        cursor.execute(HANG_UP)
    connection.close()
