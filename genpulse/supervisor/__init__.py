"""One machine's processes under supervisord: what to run, the daemon itself, and talking to it."""

from genpulse.supervisor.client import ProcessInfo, Supervisor, start
from genpulse.supervisor.programs import Program, write_configuration

__all__ = ["ProcessInfo", "Program", "Supervisor", "start", "write_configuration"]
