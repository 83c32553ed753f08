"""The state machine: every way a task can change, as pure functions of its row.

A move names its task and, where a worker or a timer speaks, the attempt it speaks for. `step` returns the whole
effect, or None when the move does not fit any more ("you were replaced", "it ended meanwhile"); nothing else fences.

    waiting -> progress -> (an end)      returns: back to the queue      unknown: nobody knows      ends: asked for
"""

from tasks.moves.base import AttemptMove, Move, error
from tasks.moves.ends import Cancel, Canceled, Expire, Settle
from tasks.moves.progress import (
    Accept,
    Admit,
    Done,
    EarlyOutput,
    Sending,
    Start,
    StorageDown,
    Succeed,
)
from tasks.moves.returns import AttemptFailed, HandBack, LeaseLost
from tasks.moves.unknown import GiveUp, Resend, StillUnknown, Unknown
from tasks.moves.waiting import Block, Promote, Reroute, Unblock

__all__ = [
    "Accept",
    "Admit",
    "AttemptFailed",
    "AttemptMove",
    "Block",
    "Cancel",
    "Canceled",
    "Done",
    "EarlyOutput",
    "Expire",
    "GiveUp",
    "HandBack",
    "LeaseLost",
    "Move",
    "Promote",
    "Reroute",
    "Resend",
    "Sending",
    "Settle",
    "Start",
    "StillUnknown",
    "StorageDown",
    "Succeed",
    "Unblock",
    "Unknown",
    "error",
]
