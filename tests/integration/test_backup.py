"""A backup beside a working instance, restored into a new folder: the same tasks, balances, assets and keys."""

import json
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import psycopg
import pytest
from typer.testing import CliRunner

from genpulse.cli.app import app
from genpulse.config import config
from genpulse.embedded import Postgres
from genpulse.events.models import Event
from tests.integration.cast import caller
from tests.integration.stack import ROOT, all_ended, sandbox
from wallet import services as wallet

SERVERS = ("DATABASE_URL", "REDIS_URL", "REDIS_LIVE_URL", "SECRET_KEY", "ENCRYPTION_KEYS")


@pytest.fixture
def genpulse(tmp_path, monkeypatch):
    """What commands do to the environment ends with the test."""
    for name in (*SERVERS, "GENPULSE_DATA"):
        monkeypatch.setenv(name, os.environ[name])
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "admin.key").write_text("gp_live_of_the_admin\n")

    def run(*words):
        return CliRunner().invoke(app, [*words, "--data", str(tmp_path / "old")])

    return run


def restored(file: Path, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, which knows no servers."""
    environment = {name: value for name, value in os.environ.items() if name not in SERVERS}
    environment |= {"GENPULSE_DATA": str(folder), **more}
    command = [sys.executable, "-m", "genpulse", "restore", str(file)]
    return subprocess.run(
        command,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_there_and_back(stack, genpulse, tmp_path):
    sandbox()
    alice = caller("alice")
    wallet.deposit(alice.user.account_id, 10_000_000, reason="test")
    body = {"model": "sandbox-image", "input": {"prompt": "kite", "sandbox": {"latency": 0}}}
    task = alice.post("/api/v1/tasks", body).json()["id"]
    all_ended([task])
    [asset] = alice.get(f"/api/v1/tasks/{task}").json()["output"]["assets"]
    key = alice.get(f"/api/v1/assets/{asset['id']}").json()["key"]

    file = tmp_path / "night.tar"
    made = genpulse("backup", str(file))
    assert made.exit_code == 0, made.output
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert genpulse("backup", str(file)).exit_code == 1
    with tarfile.open(file) as tar:
        inside = tar.extractfile("manifest.json")
        assert inside is not None
        manifest = json.load(inside)
    assert {one["key"]: one["sha256"] for one in manifest["assets"]}[key] == asset["sha256"]

    home = tmp_path / "new"
    back = restored(file, home)
    assert back.returncode == 0, back.stderr
    assert "I1" in back.stdout
    assert (home / "admin.key").read_text() == "gp_live_of_the_admin\n"
    assert stat.S_IMODE((home / "admin.key").stat().st_mode) == 0o600
    stored = (Path(str(config.storage_local_path)) / key).read_bytes()
    assert (home / "assets" / key).read_bytes() == stored
    postgres = Postgres(home / "postgres")
    server = postgres.start()
    try:
        with psycopg.connect(postgres.url()) as link:
            rows = link.execute("SELECT id::text, status, charged FROM tasks_task").fetchall()
            assert rows == [(task, "succeeded", 1_000_000)]
            [row] = link.execute("SELECT available, held FROM wallet_wallet").fetchall()
            assert row == (9_000_000, 0)
            [(count, latest)] = link.execute(
                "SELECT count(*), max(xid::text::bigint) FROM events_event"
            ).fetchall()
            assert (count, latest) == (Event.objects.count(), 1)
    finally:
        server.stop()

    taken = restored(file, tmp_path / "other", DATABASE_URL=stack.environment["DATABASE_URL"])
    assert (taken.returncode, "not empty" in taken.stderr) == (1, True)


def test_what_is_no_backup_changes_nothing(tmp_path):
    file = tmp_path / "night.tar"
    file.write_text("not a tar file")
    result = restored(file, tmp_path / "new")
    assert result.returncode == 1
    assert "cannot be restored" in result.stderr
    assert not (tmp_path / "new" / "postgres").exists()
