"""Identifiers: UUIDv7, so that inserts land at the end of every index and age follows from the id."""

from uuid import UUID

from uuid_utils.compat import uuid7


def new_id() -> UUID:
    """A fresh UUIDv7 (RFC 9562)."""
    return uuid7()


def parse_id(text: str) -> UUID | None:
    """The UUID that `text` spells with hyphens, or None: a path id that is no UUID is simply unknown."""
    try:
        value = UUID(text)
    except (ValueError, AttributeError, TypeError):
        return None
    return value if str(value) == text.lower() else None
