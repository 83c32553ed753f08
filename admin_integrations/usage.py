"""How often each vendor key is used: what daily quotas count, and what spreads work over keys."""

from collections import Counter
from uuid import UUID

from genpulse import sql

USES = (
    "UPDATE admin_integrations_credential AS c SET usage_count = usage_count + new.uses,"  # noqa: S608
    " used_today = new.uses + CASE WHEN used_on = (now() AT TIME ZONE 'UTC')::date THEN used_today ELSE 0 END,"
    " used_on = (now() AT TIME ZONE 'UTC')::date FROM "
    + sql.unnest({"id": "uuid", "uses": "int"})
    + " WHERE c.id = new.id"
)


def count(uses: Counter[UUID]) -> None:
    """Add uses by credential in the current transaction; days are UTC days."""
    if uses:
        sql.execute(USES, sql.columns(sorted(uses.items())))
