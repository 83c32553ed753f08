"""Every command of the README runs as it is printed, in both languages alike."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from genpulse.embedded import free_port

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


def commands(name: str) -> str:
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE)
    return "\n".join(blocks)


def test_both_languages_print_the_same_commands():
    assert commands("README.md") == commands("README.zh-CN.md")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A working copy whose environment is installed already."""
    home = tmp_path / "genpulse"
    skipped = shutil.ignore_patterns(
        ".git", ".genpulse", "logs", ".*_cache", "__pycache__", ".hypothesis"
    )
    shutil.copytree(
        ROOT,
        home,
        symlinks=True,
        ignore=lambda d, names: {*skipped(d, names), ".venv"} & set(names),
    )
    (home / ".venv").symlink_to(ROOT / ".venv")
    (home / ".venv" / "installed").touch()
    return home


def test_every_command_works(checkout: Path):
    port = str(free_port())
    script = commands("README.md").replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    hidden = {
        "DATABASE_URL",
        "REDIS_URL",
        "REDIS_LIVE_URL",
        "GENPULSE_DATA",
        "SECRET_KEY",
        "ENCRYPTION_KEYS",
    }
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    try:
        done = subprocess.run(
            [
                "bash",
                "-euo",
                "pipefail",
                "-c",
                script.replace("curl -s", "curl -sS --fail-with-body"),
            ],
            cwd=checkout,
            env={**environment, "PORT": port},
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"model":"sandbox-image"' in done.stdout.replace(" ", "")
        assert "gp_live_" in done.stdout
    finally:
        subprocess.run(
            ["make", "down"], cwd=checkout, env=environment, capture_output=True, check=False
        )
