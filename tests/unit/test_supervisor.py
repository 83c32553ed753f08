"""What supervisord is told, and how long it waits between restarts."""

import configparser
import stat
import time
from types import SimpleNamespace

import pytest
from supervisor.states import ProcessStates

from genpulse.supervisor import Program, write_configuration
from genpulse.supervisor.daemon import PatientProcess


@pytest.fixture
def written(tmp_path):
    programs = [
        Program(
            name="postgres",
            command=["postgres", "-c", "x='100%'"],
            group="servers",
            stop_signal="INT",
        ),
        Program(name="web", command=["python", "-m", "web app"]),
        Program(name="media", command=["media"], late=True),
        Program(name="quarantine", command=["q"], on_demand=True, stop_seconds=30),
    ]
    path = write_configuration(tmp_path, programs, socket=tmp_path / "s", logs=tmp_path / "logs")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    parser = configparser.RawConfigParser()
    parser.read(path)
    return parser


def test_groups_start_in_order_and_so_stop_in_reverse(written):
    assert dict(written["group:servers"]) == {"programs": "postgres", "priority": "1"}
    assert dict(written["group:app"]) == {"programs": "web,media,quarantine", "priority": "2"}


def test_commands_are_quoted_for_supervisord(written):
    assert written["program:web"]["command"] == "python -m 'web app'"
    assert "100%%" in written["program:postgres"]["command"]


def test_a_server_is_stopped_by_its_own_signal(written):
    assert written["program:postgres"]["stopsignal"] == "INT"


@pytest.mark.parametrize(
    ("name", "autostart", "autorestart"),
    [("web", "true", "true"), ("media", "false", "true"), ("quarantine", "false", "unexpected")],
)
def test_who_starts_and_who_is_started_again(written, name, autostart, autorestart):
    section = written[f"program:{name}"]
    assert (section["autostart"], section["autorestart"]) == (autostart, autorestart)


def test_waits_double_up_to_half_a_minute_and_begin_anew_after_a_good_run():
    process = PatientProcess(SimpleNamespace(name="web"))
    waits = []
    for _ in range(7):
        process.change_state(ProcessStates.STARTING)
        process.change_state(ProcessStates.BACKOFF)
        waits.append(process.backoff)
        assert 0 < process.delay - time.time() <= process.backoff
    assert waits == [1, 2, 4, 8, 16, 30, 30]
    process.backoff = 0  # what supervisord does once a process stayed up
    process.change_state(ProcessStates.STARTING)
    process.change_state(ProcessStates.BACKOFF)
    assert process.backoff == 1
