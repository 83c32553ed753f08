"""Rows of successful look-ups, kept in the process for less than a second.

That bounds how long a revoked key or a disabled user goes on; failures are never kept.
"""

import time
from collections.abc import Callable

from genpulse.auth.models import ApiKey, User

KEPT_SECONDS = 0.9
MOST_ENTRIES = 10_000
_kept: dict[str, tuple[float, ApiKey | User]] = {}


def get(key: str, load: Callable[[], ApiKey | User | None]) -> ApiKey | User | None:
    """`load()`, or what it gave a moment ago. Requests share the row: do not change it."""
    now = time.monotonic()
    kept = _kept.get(key)
    if kept is not None and kept[0] > now:
        return kept[1]
    row = load()
    if row is not None:
        if len(_kept) >= MOST_ENTRIES:
            _kept.clear()
        _kept[key] = (now + KEPT_SECONDS, row)
    return row


def forget() -> None:
    """Look everything up again: this process has just revoked or changed something."""
    _kept.clear()
