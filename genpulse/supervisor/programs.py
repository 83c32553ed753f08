"""The configuration of supervisord, written from a list of programs."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LOG_BYTES = "10MB"
SETTLED = 10  # seconds a program must stay up before its restarts are at once again

HEAD = """\
[unix_http_server]
file={socket}
chmod=0700

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[rpcinterface:genpulse]
supervisor.rpcinterface_factory=genpulse.supervisor.daemon:make_interface

[supervisord]
nodaemon=true
silent=true
umask=077
identifier=genpulse
logfile={logs}/supervisord.log
pidfile={folder}/supervisord.pid
childlogdir={logs}
{user}
"""
PROGRAM = """
[program:{name}]
command={command}
stopsignal={stop_signal}
stopwaitsecs={stop_seconds}
autostart={autostart}
autorestart={autorestart}
startsecs={settled}
startretries=1000000
redirect_stderr=true
stdout_logfile={logs}/{name}.log
stdout_logfile_maxbytes={log_bytes}
stdout_logfile_backups=2
"""
GROUP = """
[group:{name}]
programs={programs}
priority={priority}
"""


@dataclass(frozen=True, kw_only=True)
class Program:
    """One process. Groups start in order and stop in reverse order, their members together."""

    name: str
    command: Sequence[str]
    group: str = "app"
    stop_signal: str = "TERM"
    stop_seconds: int = 15
    late: bool = False  # started by name, when what matters more is up
    on_demand: bool = False  # started by name; an orderly end is final

    def section(self, logs: Path) -> str:
        return PROGRAM.format(
            name=self.name,
            command=quoted(shlex.join(self.command)),
            stop_signal=self.stop_signal,
            stop_seconds=self.stop_seconds,
            autostart=str(not (self.on_demand or self.late)).lower(),
            autorestart="unexpected" if self.on_demand else "true",
            settled=SETTLED,
            logs=quoted(logs),
            log_bytes=LOG_BYTES,
        )


def write_configuration(
    folder: Path, programs: Sequence[Program], *, socket: Path, logs: Path
) -> Path:
    """Write `supervisord.conf` below `folder` (mode 600); returns its path."""
    user = "user=root" if os.geteuid() == 0 else ""  # said openly, or supervisord complains
    parts = [
        HEAD.format(socket=quoted(socket), folder=quoted(folder), logs=quoted(logs), user=user)
    ]
    parts += [program.section(logs) for program in programs]
    groups = list(dict.fromkeys(program.group for program in programs))
    for number, group in enumerate(groups):
        members = ",".join(program.name for program in programs if program.group == group)
        parts.append(GROUP.format(name=group, programs=members, priority=number + 1))
    path = folder / "supervisord.conf"
    path.touch(mode=0o600)
    path.write_text("".join(parts))
    return path


def quoted(value: str | Path) -> str:
    """supervisord expands % signs."""
    return str(value).replace("%", "%%")
