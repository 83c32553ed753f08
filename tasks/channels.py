"""Names in the live Redis: who rings where, and where deltas are kept."""

from uuid import UUID

from genpulse.ids import new_id

IDLE = "gp:idle"  # nobody rings here: whoever listens to nothing else stays connected
EVERYBODY = "gp:say"  # operators' words to all users


def stored(account: UUID | None) -> str:
    """Where `genpulse.events.log` rings for an owner; None: for the operators."""
    return f"gp:u:{account}" if account else "gp:admin"


def passing(account: UUID) -> str:
    """What passes by and is not stored, of an owner's tasks."""
    return f"gp:live:{account}"


def said(account: UUID) -> str:
    """Operators' words to one user."""
    return f"gp:say:{account}"


def deltas(task: UUID | str) -> str:
    """The stream of one streamed answer."""
    return f"gp:d:{task}"


def ticket(secret: str) -> str:
    """Where the right to one WebSocket waits for it."""
    return f"gp:ws:{secret}"


def answer() -> str:
    """Where one question to the other web processes is answered."""
    return f"gp:answer:{new_id()}"
