"""One machine's processes under supervisord: what to run, the daemon itself, and talking to it."""

from genpulse.supervisor.client import ProcessInfo, Supervisor
from genpulse.supervisor.programs import Program, write_configuration

__all__ = ["ProcessInfo", "Program", "Supervisor", "write_configuration"]
