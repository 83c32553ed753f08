"""The contract of providers, at the emulator that a file calls `vendor`."""

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from providers.base import Call
from providers.contract import ProviderContract


class VendorContract(ProviderContract):
    """`wanted` makes calls to the emulator; POSTs to `path` create work."""

    path: ClassVar[str]
    wanted: ClassVar[Callable[..., Call]]
    vendor: Any

    @pytest.fixture(autouse=True)
    def _vendor(self, vendor: Any) -> None:
        self.vendor = vendor

    def make(self, **more: Any) -> Call:
        return type(self).wanted(self.vendor, **more)

    def creates(self) -> int:
        return int(self.vendor.count("POST", self.path))
