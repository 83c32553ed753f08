"""The supervisor at work on programs that do nothing but live and die."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from genpulse.cli.instance import Instance
from genpulse.cli.launch import LaunchError, await_ready, stop
from genpulse.cli.leftovers import end_leftovers
from genpulse.embedded.system import child_command, wait_until
from genpulse.supervisor import Program, start, write_configuration
from tests.conftest import HOME


def nap(name: str, **options: Any) -> Program:
    return Program(name=name, command=child_command(["sleep", "1000"], signal.SIGKILL), **options)


def until(condition: Any) -> None:
    assert wait_until(condition, 20, lambda: True)


@pytest.fixture
def instance(request: pytest.FixtureRequest) -> Iterator[Instance]:
    """Three programs: `one` runs, `late` and `spare` wait to be asked for."""
    made = Instance(HOME / f"instance-{os.getpid()}-{abs(hash(request.node.name))}")
    made.make_folders()
    programs = [nap("one"), nap("late", late=True), nap("spare", on_demand=True)]
    path = write_configuration(made.run, programs, socket=made.socket, logs=made.logs)
    command = [sys.executable, "-m", "genpulse.supervisor.daemon", str(path), str(made.lock)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        until(lambda: made.supervisor_pid() == process.pid and naps(made))
        yield made
        process.kill()


def naps(instance: Instance) -> bool:
    """Whether `one` has become what it should be."""
    try:
        return psutil.Process(find(instance, "one")["pid"]).name() == "sleep"
    except (OSError, psutil.Error):
        return False


def find(instance: Instance, name: str) -> dict[str, Any]:
    return next(dict(one) for one in instance.supervisor.processes() if one["name"] == name)


def test_a_killed_program_comes_back_and_is_counted(instance: Instance) -> None:
    before = find(instance, "one")
    os.kill(before["pid"], signal.SIGKILL)
    until(lambda: find(instance, "one")["pid"] not in {None, before["pid"]})
    assert find(instance, "one")["restarts"] == before["restarts"] + 1


def test_some_programs_start_only_when_asked(instance: Instance) -> None:
    assert find(instance, "late") == {
        "name": "late",
        "pid": None,
        "state": "stopped",
        "restarts": 0,
    }
    assert instance.supervisor.start("late")
    until(lambda: find(instance, "late")["pid"])
    assert not instance.supervisor.start("late")
    assert not instance.supervisor.start("unheard of")


def test_a_process_asks_for_another_one(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENPULSE_SUPERVISOR", str(instance.socket))
    assert start("spare")
    until(lambda: find(instance, "spare")["pid"])
    assert not start("spare")


def test_without_a_supervisor_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GENPULSE_SUPERVISOR", raising=False)
    assert not start("spare")
    monkeypatch.setenv("GENPULSE_SUPERVISOR", str(HOME / "nobody.sock"))
    assert not start("spare")


def test_a_second_supervisor_is_refused(instance: Instance) -> None:
    configuration = instance.run / "supervisord.conf"
    command = [sys.executable, "-m", "genpulse.supervisor.daemon"]
    command += [str(configuration), str(instance.lock)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another supervisor" in done.stderr


def test_a_killed_supervisor_takes_its_children_along(instance: Instance) -> None:
    child = psutil.Process(find(instance, "one")["pid"])
    supervisor = psutil.Process(instance.supervisor_pid())
    supervisor.kill()
    supervisor.wait(10)
    until(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)
    assert instance.supervisor_pid() is None
    assert (Path(instance.run) / "supervisor.lock").exists()


def test_stopping_is_orderly_and_may_be_repeated(instance: Instance) -> None:
    assert stop(instance)
    assert instance.supervisor_pid() is None
    assert not stop(instance)


def test_what_a_supervisor_left_behind_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(1000)", "genpulse"]
    environment = os.environ | {"GENPULSE_INSTANCE": str(tmp_path)}
    with subprocess.Popen(command, env=environment) as mine, subprocess.Popen(command) as other:
        until(lambda: psutil.Process(mine.pid).environ().get("GENPULSE_INSTANCE"))
        ended, alive = end_leftovers(tmp_path), (mine.poll() is None, other.poll() is None)
        other.kill()
    assert (ended, alive) == (1, (False, True))
    assert end_leftovers(tmp_path) == 0


def test_a_start_that_fails_shows_what_its_processes_said(tmp_path: Path) -> None:
    instance = Instance(tmp_path)
    instance.make_folders()
    (instance.logs / "old.log").write_text("long ago\n")
    os.utime(instance.logs / "old.log", (0, 0))
    instance.lock.touch()
    (instance.logs / "web.log").write_text("no such table\n" * 20)
    (instance.logs / "app.log").write_text("the same once more\n")
    with pytest.raises(LaunchError, match="not ready") as caught:
        await_ready(instance)
    assert str(caught.value).count("no such table") < 20
    assert "--- web.log" in str(caught.value)
    assert "long ago" not in str(caught.value)


def test_a_deep_folder_has_its_control_socket_elsewhere(tmp_path: Path) -> None:
    deep = Instance(tmp_path / ("deep" * 25))
    assert len(str(deep.socket)) < 100
    assert deep.socket == Instance(deep.home).socket
    assert deep.socket != Instance(tmp_path / ("deep" * 24)).socket
