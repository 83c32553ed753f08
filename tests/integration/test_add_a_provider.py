"""The how-to "Add a provider" does what it says: its package, its tests, and a task through running processes."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from admin_integrations import fleet
from admin_integrations.models import Executor
from media.models import Asset
from providers import discovery, registry
from tests.integration.cast import caller
from tests.integration.stack import Stack, all_ended
from wallet import services as wallet

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/how-to/add-a-provider.md"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder of packages with the page's one in it, as an installer leaves it."""
    blocks = re.findall(r"^```\w+\n# (\S+)\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    files = dict(blocks)
    for name in ("genpulse_acme.py", "test_acme.py"):
        (tmp_path / name).write_text(files[name])
    project = tomllib.loads(files["pyproject.toml"])["project"]
    about = tmp_path / f"genpulse_acme-{project['version']}.dist-info"
    about.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (about / "METADATA").write_text(head)
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return tmp_path


def test_its_tests_pass_without_an_engine(package: Path) -> None:
    plain = {name: value for name, value in os.environ.items() if name in {"PATH", "HOME", "LANG"}}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", package, package],
        cwd=ROOT,
        env={**plain, "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert re.search(r"^1[0-9] passed", done.stdout, re.MULTILINE), done.stdout


@pytest.fixture
def installed(package: Path, stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The package in this process and, after a restart, in all others; its stand-in for the vendor."""
    monkeypatch.syspath_prepend(package)
    discovery._all.cache_clear()
    vendor = importlib.import_module("test_acme").start()
    monkeypatch.setitem(stack.environment, "PYTHONPATH", str(package))
    for name in list(stack.processes):
        stack.restart(name)
    yield vendor
    vendor.shutdown()
    vendor.server_close()
    discovery._all.cache_clear()
    for name in ("genpulse_acme", "test_acme"):
        sys.modules.pop(name)


def test_a_task_of_an_installed_provider_runs(installed: Any) -> None:
    assert registry.get("acme").description == "Acme pictures"
    alice, root = caller("alice"), caller("root", "admin")
    wallet.deposit(alice.user.account_id, 100_000_000, reason="test")
    key = {"provider": "acme", "name": "main", "key": "the-vendor-key-0123"}
    made = root.post("/api/admin/api-keys", key).json()
    executor = {
        "name": "acme-1",
        "type": "acme",
        "base_url": f"http://127.0.0.1:{installed.server_port}",
        "max_concurrency": 8,
        "api_key_ids": [made["id"]],
    }
    assert root.post("/api/admin/executors", executor).status_code == 200
    fleet.forget()
    assert "acme-kite-1" in {m["name"] for m in alice.get("/api/v1/models").json()["items"]}

    refused = alice.post(
        "/api/v1/tasks", {"model": "acme-kite-1", "input": {"prompt": "x", "n": 2}}
    )
    assert refused.json()["errors"][0]["field"] == "input.n"
    answer = alice.post("/api/v1/tasks", {"model": "acme-kite-1", "input": {"prompt": "a kite"}})
    assert answer.status_code == 201, answer.content

    [done] = all_ended([answer.json()["id"]], 60)
    assert (done.status, done.family, done.executor) == ("succeeded", "acme", "acme-1")
    assert [create["prompt"] for create in installed.creates] == ["a kite"]
    assert Asset.objects.get().content_type == "image/png"
    assert Executor.objects.get().base_url.endswith(str(installed.server_port))
