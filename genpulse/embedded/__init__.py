"""PostgreSQL and Valkey from wheels, for `genpulse up` and for the tests: nothing to install first."""

from genpulse.embedded.postgres import Postgres
from genpulse.embedded.system import Running, ServerError, free_port
from genpulse.embedded.valkey import Valkey

__all__ = ["Postgres", "Running", "ServerError", "Valkey", "free_port"]
