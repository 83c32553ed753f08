"""Where providers come from, and what they bring into a process."""

import json
import subprocess
import sys
from importlib.metadata import EntryPoint

import pytest

from genpulse.config import config
from providers import discovery, families, registry
from providers.base import Family, Provider

SHOW = """
import json, sys
import providers.base, providers.http, providers.testing, providers.wire.openai_chat, providers.adapters.sandbox
from providers.adapters.sandbox import Sandbox
from providers.testing import make_call
call = make_call(Sandbox(), "sandbox-text", {"prompt": "hi", "sandbox": {"latency": 0}})
print(json.dumps([Sandbox().submit(call).text, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


class Plugin(Provider):
    name = "plugin"
    families = (Family("plugin", ("plugin-*",)),)


class Clumsy:
    """No provider at all."""


@pytest.fixture
def installed(monkeypatch):
    """Make an entry point look installed: its value is the name of something in this file."""

    def install(name):
        entry = EntryPoint("x", f"{__name__}:{name}", discovery.GROUP)
        monkeypatch.setattr(
            discovery, "entry_points", lambda group: [entry] * (group == discovery.GROUP)
        )
        discovery._all.cache_clear()

    yield install
    discovery._all.cache_clear()


def test_the_sandbox_is_always_there():
    assert registry.get("sandbox").name == "sandbox"
    assert registry.get("sandbox") is registry.get("sandbox"), "one instance per process"
    assert registry.get("sandbox") in registry.all_providers()


def test_an_installed_package_brings_provider_and_family(installed):
    installed("Plugin")

    assert isinstance(registry.get("plugin"), Plugin)
    assert families.families_of("plugin") == (Family("plugin", ("plugin-*",), "plugin"),)
    assert registry.resolve("plugin-7").provider == "plugin"


def test_an_entry_point_that_is_no_provider(installed):
    installed("Clumsy")

    with pytest.raises(RuntimeError, match="is not a Provider class"):
        registry.all_providers()


def test_switched_off(monkeypatch):
    monkeypatch.setattr(config, "sandbox_enabled", False)

    assert "sandbox" not in discovery.providers()


def test_an_adapter_runs_in_a_bare_interpreter():
    shown = subprocess.run([sys.executable, "-c", SHOW], capture_output=True, check=True, text=True)

    text, modules = json.loads(shown.stdout)
    assert text == "[sandbox] sandbox-text: hi"
    heavy = {"django", "celery", "kombu", "rest_framework", "channels", "PIL", "mutagen", "pytest"}
    assert not heavy & set(modules)
