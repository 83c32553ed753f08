"""The stored events that webhooks can ask for, by group; what is not stored is never delivered."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Annotated

from pydantic import AfterValidator, Field

from genpulse.http.parsing import wrong

# Of one task or batch.
WORK: Mapping[str, str] = MappingProxyType(
    {
        "task": "queued blocked admitted running awaiting verifying attempt_failed output"
        " cancel_requested promoted succeeded failed canceled expired",
        "batch": "created completed partial failed",
    }
)
# Of everything a user has.
OWN: Mapping[str, str] = MappingProxyType(
    {
        **WORK,
        "wallet": "held charged released deposited adjusted",
        "asset": "created deleted",
        "ability-task": "status",
        "webhook": "disabled test",
    }
)
OPERATORS: Mapping[str, str] = MappingProxyType(
    {
        "executor": "up down cooldown state",
        "credential": "exhausted",
        "agent": "offline alert",
        "audit": "violation outcome_unknown",
    }
)


def words(groups: Mapping[str, str]) -> list[str]:
    """`*`, then `<group>.*` and the events of each group."""
    found = [f"{group}.{name}" for group, names in groups.items() for name in ["*", *names.split()]]
    return ["*", *found]


def one_of(known: Collection[str]) -> AfterValidator:
    def check(name: str) -> str:
        if name not in known:
            raise wrong("choice", f"want one of {', '.join(known)}")
        return name

    return AfterValidator(check)


Name = Annotated[str, Field(min_length=1, max_length=40)]
WorkEvent = Annotated[Name, one_of(words(WORK))]
AnyEvent = Annotated[Name, one_of(words({**OWN, **OPERATORS}))]
