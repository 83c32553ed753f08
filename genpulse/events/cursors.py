"""Places in the order in which changes became visible: what a client hands back to get what it missed.

Ids and transaction ids are taken before commit, so an event may become visible after one that is
"later". A list therefore reads only below the oldest open transaction, in the order `(xid, id)`, and is
strict: nothing twice, nothing skipped. A live reader may be handed an event that lies above that line;
its cursor also holds the line as it was when the event was written (`floor`), and a resume starts there:
it may repeat what arrived live, with the same cursor, and skips nothing.
"""

import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from typing import Self

from genpulse import sql
from genpulse.config import config

LARGEST = 2**63 - 1
# Taken before the rows are read: a transaction that ends in between is read again, never left out.
NOW = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, extract(epoch FROM now())::bigint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """`at`: seconds since the epoch."""

    xid: int
    id: int
    floor: int
    at: int

    def __str__(self) -> str:
        text = f"{self.xid}.{self.id}.{self.floor}.{self.at}"
        return urlsafe_b64encode(text.encode()).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what no answer of ours contained."""
        parts = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii").split(".")
        if len(parts) != 4 or not all(part.isdigit() and len(part) <= 19 for part in parts):
            raise ValueError("no cursor")
        numbers = [int(part) for part in parts]
        if max(numbers) > LARGEST:
            raise ValueError("no cursor")
        xid, id_, floor, at = numbers
        return cls(xid=xid, id=id_, floor=floor, at=at)

    @property
    def expired(self) -> bool:
        """Events behind it may have been removed."""
        return self.at < time.time() - config.event_retention


START = Cursor(xid=0, id=0, floor=0, at=0)  # before everything


def now() -> Cursor:
    """Before everything that is not visible yet, behind everything that no open transaction can precede."""
    [(line, at)] = sql.fetch(NOW)
    return Cursor(xid=line, id=0, floor=line, at=at)
