"""One row of a retry table: what the vendor does, and what the engine is told."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from providers.base import Call, ErrorKind, Provider, ProviderError
from tests.emulators.base import Fault

UNCHECKED: Any = object()


@dataclass(frozen=True)
class Row:
    """`retry_after` and `retries` are looked at when given."""

    name: str
    fault: Fault
    kind: ErrorKind
    code: str | None = None
    retry_after: Any = UNCHECKED
    retries: Any = UNCHECKED

    def expect(self, provider: Provider, call: Call) -> ProviderError:
        with pytest.raises(ProviderError) as caught:
            provider.submit(call)
        problem = caught.value
        assert (problem.kind, problem.code) == (self.kind, self.code or self.kind), problem.raw
        if self.retry_after is not UNCHECKED:
            assert problem.retry_after == self.retry_after
        if self.retries is not UNCHECKED:
            assert problem.retries == self.retries
        return problem


def table(rows: list[Row]) -> pytest.MarkDecorator:
    """`@table(ROWS)` runs a test once for each row."""
    return pytest.mark.parametrize("row", rows, ids=[row.name for row in rows])


def on(
    method: str, path: str, faults: Mapping[ErrorKind, Fault]
) -> Mapping[ErrorKind, Callable[[Any], None]]:
    """`ProviderContract.faults` of an emulator called `vendor`."""

    def provoke(fault: Fault) -> Callable[[Any], None]:
        return lambda test: test.vendor.next(method, path, fault)

    return {kind: provoke(fault) for kind, fault in faults.items()}
