"""What adapters of vendors with jobs share: polling many of them, and reading the numbers in their answers."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from providers.base import Call, ProviderError, Update

HOPELESS = frozenset({"rate_limited", "bad_credentials"})
LARGEST = 10**12


def each(calls: Iterable[Call], look: Callable[[Call], Update | None]) -> list[Update]:
    """`look` at one call after the other; None: nothing is known about it.

    A look-up that fails delays its own job only, unless it is certain that the next ones will fail too. Raises the last error when nothing at all was learned.
    """
    known: list[Update] = []
    failure: ProviderError | None = None
    for call in calls:
        try:
            update = look(call)
        except ProviderError as problem:
            failure = problem
            if problem.kind in HOPELESS:
                break
        else:
            known += [update] if update else []
    if failure is not None and not known:
        raise failure
    return known


def amounts(data: Any, names: Mapping[str, str]) -> dict[str, float]:
    """The counts in `data`, renamed by `names` (theirs -> ours); what is no sane number is left out."""
    found = data.items() if isinstance(data, dict) else ()
    return {names[name]: value for name, value in found if name in names and _is_amount(value)}


def _is_amount(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 <= value <= LARGEST
