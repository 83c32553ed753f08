"""`genpulse demo --emulators`: what a newcomer sees of fail-over and quotas, on real processes."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from admin_integrations.models import Credential, Executor
from genpulse.auth import services
from genpulse.cli import demo, vendors
from genpulse.cli.app import app
from genpulse.cli.instance import Instance
from tasks import audit
from tasks.models import Task


@pytest.fixture
def instance(web: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """A folder that leads to the running processes."""
    found = Instance(tmp_path)
    found.write_state({"base_url": web})
    root = services.get_or_create_user("root")
    _, text = services.create_key(root, name="operator", scopes=["admin", "tasks"])
    found.admin_key_file.write_text(text)
    monkeypatch.setattr(demo, "running", lambda data: found)
    return found


def test_the_story_of_two_accounts(instance: Instance) -> None:
    left = Executor.objects.create(name=vendors.NAMES[1], type="openai", status="paused")

    result = CliRunner().invoke(app, ["demo", "--emulators", "--data", str(instance.home)])

    assert result.exit_code == 0, result.output
    told = [line.strip() for line in result.stdout.splitlines() if line.startswith("   ")]
    north, south = (f"{name}: it answered" for name in vendors.NAMES)
    broken = "demo-north: transient: The provider had an internal error."
    assert told == [
        north,
        "demo-north: rate_limited: The provider asks to slow down.",
        south,
        *[broken] * 3,
        south,
        "demo-north: quota_exhausted: The quota or the balance at the provider is used up.",
        south,
        south,
        "demo-north: every key is cooling down",
        "demo-south: every key is disabled, expired or used up",
        south,
    ]
    assert not Executor.objects.filter(name__in=[*vendors.NAMES, left.name]).exists()
    assert not Credential.objects.exists()
    assert set(Task.objects.values_list("status", flat=True)) == {"succeeded"}
    assert not audit.breaches()


def test_without_a_checkout_it_says_so(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vendors, "ROOT", tmp_path)
    result = CliRunner().invoke(app, ["demo", "--emulators", "--data", str(instance.home)])
    assert result.exit_code == 1
    assert "--emulators needs a checkout of GenPulse" in result.output
    assert not Executor.objects.exists()
