"""The operator's wish for each queue: active, paused (tasks wait), draining (new ones are refused).

A family's own row counts before the row `*`, which is for every family, also those that appear later.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from django.db import transaction

from admin_integrations.models import FamilyState
from genpulse import sql

EVERY = "*"
MAX_AGE = 0.5  # seconds
ACTIVE, PAUSED, DRAINING = "active", "paused", "draining"

READ = "SELECT name, state, reason FROM admin_integrations_familystate"


@dataclass(frozen=True, slots=True)
class States:
    """All wishes at one moment: name -> (state, reason)."""

    rows: Mapping[str, tuple[str, str]]

    def of(self, family: str) -> str:
        return self._row(family)[0]

    def reason(self, family: str) -> str:
        return self._row(family)[1]

    def _row(self, family: str) -> tuple[str, str]:
        return self.rows.get(family) or self.rows.get(EVERY) or (ACTIVE, "")


_cached: tuple[float, States] | None = None


def ask() -> sql.Answer:
    """Send the question for `read`."""
    return sql.later(READ)


def read(asked: sql.Answer | None = None) -> States:
    """As they are in the database."""
    global _cached  # noqa: PLW0603 - one for a process
    rows = (asked or ask()).rows()
    now = States({name: (state, reason) for name, state, reason in rows})
    _cached = (time.monotonic(), now)
    return now


def current() -> States:
    """As they were less than half a second ago."""
    if _cached is None or time.monotonic() - _cached[0] > MAX_AGE:
        return read()
    return _cached[1]


def forget() -> None:
    global _cached  # noqa: PLW0603
    _cached = None


def set_state(name: str, state: str, reason: str = "") -> None:
    """For a family, or with `*` for every one: what single families were told before is forgotten then."""
    _write(name, state, reason)
    forget()


@transaction.atomic
def _write(name: str, state: str, reason: str) -> None:
    if name == EVERY:
        FamilyState.objects.all().delete()
    if state == ACTIVE and not FamilyState.objects.filter(name=EVERY).exists():
        FamilyState.objects.filter(name=name).delete()
        return
    FamilyState.objects.update_or_create(name=name, defaults={"state": state, "reason": reason})
