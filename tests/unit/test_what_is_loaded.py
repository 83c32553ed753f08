"""Each process loads what it uses and nothing else: memory of every replica, and seconds of every start.

A package that is missing here was imported somewhere by accident, or it earns its place in the list.
"""

import json
import os
import subprocess
import sys

import pytest


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


EVERYWHERE = words(
    """genpulse tasks providers wallet media admin_integrations amqp annotated_types asgiref billiard celery certifi
    cffi channels click corsheaders cryptography dateutil django django_htmx dotenv drf_spectacular
    drf_spectacular_sidecar greenlet idna jwt kombu msgpack packaging prometheus_client psycopg psycopg_binary pydantic
    pydantic_core pydantic_settings redis rest_framework six sqlparse structlog typing_extensions typing_inspection
    tzlocal urllib3 uuid_utils vine yaml"""
)
PAGES = words("rest_framework.views genpulse.urls tasks.admin")
SHELLS = words("celery.bin celery.beat django.test")
PROCESSES = {  # what it begins with, packages of its own, modules it must not know
    "orchestrator": ("tasks.orchestrator", words("websocket"), PAGES | SHELLS),
    "worker": (
        "tasks.worker celery.apps.worker celery.concurrency.thread",
        words("websocket psutil"),
        PAGES | SHELLS,
    ),
    "web": (
        "genpulse.asgi genpulse.urls",
        words("charset_normalizer inflection pygments requests uritemplate websocket whitenoise"),
        words("celery.bin"),
    ),
}
PROGRAM = """
import importlib, json, sys
sys.modules["rich"] = None  # as `genpulse.cli.processes` does
import django
django.setup()
for name in sys.argv[1:]:
    importlib.import_module(name)
from providers import registry
registry.families()
print(json.dumps([name for name, module in sys.modules.items() if module is not None]))
"""


def loaded(modules):
    settings = {"DJANGO_SETTINGS_MODULE": "genpulse.settings"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *modules],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout))


def packages(modules):
    """What was installed: neither Python's own nor what compilers leave."""
    tops = {name.partition(".")[0] for name in modules}
    return {name for name in tops - sys.stdlib_module_names if not name.startswith(("_", "cython"))}


@pytest.mark.parametrize("process", PROCESSES)
def test_nothing_is_loaded_that_is_not_used(process):
    begins_with, own, unknown = PROCESSES[process]
    found = loaded(begins_with.split())
    assert packages(found) - EVERYWHERE - own == set()
    assert found & unknown == set()
