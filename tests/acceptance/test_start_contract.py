"""`genpulse up` as an operator meets it: a folder, one command, real processes."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest

from genpulse.embedded.system import free_port, wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

Answer = subprocess.CompletedProcess[str]
Command = Callable[..., Answer]
GENPULSE = [sys.executable, "-m", "genpulse"]
KEPT = re.compile(r"PATH|PYTHONPATH|HOME|LANG|TMPDIR|COVERAGE_.*")
PLAIN = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A working directory of an operator; whatever the test left running in it is ended."""
    path = Path(tempfile.mkdtemp(prefix="genpulse-acceptance-"))
    yield path
    for name in ("data", "other"):
        subprocess.run([*GENPULSE, "down", "--data", path / name], env=PLAIN, check=True)
    shutil.rmtree(path)


@pytest.fixture
def genpulse(folder: Path) -> Command:
    def run(*words: str, **environment: str) -> Answer:
        return subprocess.run(
            [*GENPULSE, *words],
            cwd=folder,
            env=PLAIN | {"GENPULSE_DATA": "data"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def parsed(answer: Answer) -> Any:
    """What `--json` printed: exactly one line."""
    assert answer.returncode == 0, answer.stderr
    (line,) = answer.stdout.splitlines()
    return json.loads(line)


def status_of(url: str, key: str = "") -> int:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"} if key else {})  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return int(error.code)
    except OSError:
        return 0


def soon(condition: Callable[[], object], seconds: float = 90) -> None:
    assert wait_until(lambda: bool(condition()), seconds, lambda: True)


def processes_of(folder: Path) -> list[str]:
    """Everything that works for the instance below `folder`."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        try:
            words = " ".join(process.info["cmdline"] or [])
            mark = process.environ().get("GENPULSE_INSTANCE", "")
        except psutil.Error:
            continue
        if str(folder) in words or str(folder) in mark:
            found.append(words)
    return found


def pids(genpulse: Command) -> dict[str, int]:
    return {one["name"]: one["pid"] for one in parsed(genpulse("status", "--json"))["processes"]}


def test_up_status_kill_up_down(genpulse: Command, folder: Path) -> None:
    # An operator starts it; `.env` is read.
    (folder / ".env").write_text("PORT=0\nSIGNUP_CREDITS=5\n")
    told = parsed(genpulse("up", "--no-demo", "--json"))
    assert told.keys() == {
        *("base_url", "admin_key", "pid", "data_dir"),
        *("database_url", "redis_url", "flower_url", "flower_auth"),
    }
    assert told["data_dir"] == str(folder / "data")
    assert status_of(f"{told['base_url']}/ready") == 200
    assert status_of(f"{told['base_url']}/api/v1/wallet", told["admin_key"]) == 200
    assert (folder / "data" / "admin.key").read_text().strip() == told["admin_key"]
    for name in ("admin.key", "secret_key", "encryption_keys", "flower.password", "instance.json"):
        assert (folder / "data" / name).stat().st_mode & 0o077 == 0
    with psycopg.connect(told["database_url"]) as database:
        assert database.execute("SELECT count(*) FROM tasks").fetchone() == (0,)

    # Again: the same instance, nothing is started.
    assert parsed(genpulse("up", "--no-demo", "--json")) == told
    running = pids(genpulse)
    assert {"postgres", "valkey", "web", "orchestrator", "worker", "media", "flower"} == set(
        running
    )

    # Without --json it says the same to people, with a link to sign in.
    greeting = genpulse("up", "--no-demo").stdout
    assert told["admin_key"] in greeting
    (link,) = re.findall(r"http://\S+/login-link/\S+", greeting)
    assert link.startswith(told["base_url"])
    shown = genpulse("status").stdout
    assert re.search(r"^worker +(starting|running) +\d+ +0", shown, re.MULTILINE)

    # Flower is there, for those who know the password.
    soon(lambda: status_of(told["flower_url"]) == 401)

    # PostgreSQL and web die; both come back.
    os.kill(running["postgres"], signal.SIGKILL)
    os.kill(running["web"], signal.SIGKILL)
    soon(lambda: status_of(f"{told['base_url']}/ready") == 200)
    assert pids(genpulse)["postgres"] != running["postgres"]

    # The supervisor dies, and everything with it; `up` recovers with the same key and data.
    os.kill(told["pid"], signal.SIGKILL)
    soon(lambda: not processes_of(folder))
    assert genpulse("status").returncode == 3
    again = parsed(genpulse("up", "--no-demo", "--json"))
    assert (again["admin_key"], again["data_dir"]) == (told["admin_key"], told["data_dir"])
    assert again["pid"] != told["pid"]
    assert status_of(f"{again['base_url']}/api/v1/wallet", again["admin_key"]) == 200

    # Down leaves no process, is fine when nothing runs, and deletes data only when asked to.
    assert genpulse("down").returncode == 0
    assert processes_of(folder) == []
    assert genpulse("down").returncode == 0
    assert (folder / "data").exists()
    assert genpulse("down", "--purge").returncode == 0
    assert not (folder / "data").exists()


def test_a_taken_port_is_named(genpulse: Command, folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        answer = genpulse("up", "--port", str(port), "--json")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert f"port {port} is taken" in answer.stderr
    assert "--port" in answer.stderr
    assert processes_of(folder) == []


def test_two_instances_that_want_one_port_at_once(folder: Path) -> None:
    port = str(free_port())
    began = [
        subprocess.Popen(
            [*GENPULSE, "up", "--no-demo", "--json", "--port", port, "--data", folder / name],
            cwd=folder,
            env=PLAIN,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("data", "other")
    ]
    told = [process.communicate() for process in began]
    assert sorted(process.returncode for process in began) == [0, 1], told
    loser = next(n for n, process in enumerate(began) if process.returncode)
    assert told[loser][0] == ""
    assert f"port {port} is taken" in told[loser][1]
    place = folder / ("data", "other")[loser]
    assert not [words for words in processes_of(folder) if str(place) in words]
    for name in ("data", "other"):  # the folder of one that never ran goes as well
        subprocess.run(
            [*GENPULSE, "down", "--purge", "--data", folder / name], env=PLAIN, check=True
        )
        assert not (folder / name).exists()


def test_production_generates_and_embeds_nothing(genpulse: Command, folder: Path) -> None:
    answer = genpulse("up", "--port", "0", ENVIRONMENT="production", DEBUG="1")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert [line.split(": ")[1] for line in answer.stderr.splitlines()] == [
        *("SECRET_KEY", "ENCRYPTION_KEYS", "DATABASE_URL", "REDIS_URL", "DEBUG", "ALLOWED_HOSTS"),
    ]
    assert not (folder / "data" / "secret_key").exists()


def test_a_process_needs_a_database(genpulse: Command) -> None:
    answer = genpulse("web")
    assert answer.returncode == 1
    assert "genpulse: DATABASE_URL: missing" in answer.stderr


def test_production_runs_no_monitor_without_a_password(genpulse: Command) -> None:
    answer = genpulse("monitor")
    assert answer.returncode == 1
    assert "FLOWER_BASIC_AUTH: missing" in answer.stderr


def test_two_migrations_at_once_on_an_empty_database(genpulse: Command, folder: Path) -> None:
    name = f"fresh_{os.getpid()}"
    address = os.environ["DATABASE_URL"]
    with psycopg.connect(address, autocommit=True) as database:
        database.execute(f"CREATE DATABASE {name}")
    fresh = address.replace("/genpulse?", f"/{name}?")
    environment = PLAIN | {"DATABASE_URL": fresh, "GENPULSE_DATA": "data"}
    both = [
        subprocess.Popen(
            [*GENPULSE, "init-db"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    told = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum("(0 migrations applied)" in text for text in told) == 1
    with psycopg.connect(fresh) as database:
        assert database.execute("SELECT count(*) FROM task_batches").fetchone() == (0,)
