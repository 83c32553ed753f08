"""Which providers exist: the files of `providers/adapters` and installed packages (entry points `genpulse.providers`)."""

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import entry_points

from genpulse.config import config
from providers import adapters
from providers.base import Provider

GROUP = "genpulse.providers"


def providers() -> Mapping[str, Provider]:
    """Name -> the one instance of this process. The sandbox is left out where SANDBOX_ENABLED is false."""
    found = _all()
    if config.sandbox_enabled:
        return found
    return {name: provider for name, provider in found.items() if name != "sandbox"}


@cache
def _all() -> dict[str, Provider]:
    found: dict[str, Provider] = {}
    for cls in (*_adapters(), *_installed()):
        provider = cls()
        if provider.name in found:
            raise RuntimeError(f"two providers are called {provider.name!r}")
        found[provider.name] = provider
    return found


def _adapters() -> Iterator[type[Provider]]:
    for module in pkgutil.iter_modules(adapters.__path__, f"{adapters.__name__}."):
        names = vars(importlib.import_module(module.name)).values()
        for value in names:
            if _is_adapter(value) and value.__module__ == module.name:
                yield value


def _installed() -> Iterator[type[Provider]]:
    for entry in entry_points(group=GROUP):
        value = entry.load()
        if not _is_adapter(value):
            raise RuntimeError(f"the entry point {entry.name} of {GROUP} is not a Provider class")
        yield value


def _is_adapter(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Provider) and "name" in vars(value)
