"""The embedded servers: private, restartable after any death, and gone with their parent."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis
from django.db import connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from genpulse.config import config
from genpulse.embedded import Postgres, Valkey, free_port
from genpulse.embedded.system import ServerError, child_command, run, secret_in, wait_until
from tests.conftest import HOME


def test_the_session_has_a_database_of_its_own(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user, current_setting('is_superuser'), current_database()")
        user, superuser, database = cursor.fetchone()
    assert (user, superuser) == ("genpulse", "off")
    assert database.startswith("test_")


def test_both_redis_databases_are_there_and_empty(clean_redis: redis.Redis) -> None:
    assert clean_redis.dbsize() == 0
    assert redis.Redis.from_url(os.environ["REDIS_URL"]).dbsize() == 0
    assert os.environ["REDIS_URL"] != os.environ["REDIS_LIVE_URL"]


def test_settings_and_environment_agree() -> None:
    assert config.redis_url == os.environ["REDIS_URL"]
    assert str(config.data_dir) == os.environ["GENPULSE_DATA"] == str(HOME / "data")


def test_postgres_comes_back_with_its_data_after_a_kill() -> None:
    home = HOME / "killed"
    postgres = Postgres(home, port=free_port())
    first = postgres.start()
    with psycopg.connect(postgres.url(), autocommit=True) as link:
        link.execute("CREATE TABLE kept AS SELECT 1 AS one")
    first.process.kill()
    first.process.wait()
    second = postgres.start()
    with psycopg.connect(postgres.tcp_url()) as link:
        assert link.execute("SELECT one FROM kept").fetchone() == (1,)
    second.stop()


def test_nobody_enters_without_the_password() -> None:
    postgres = Postgres(HOME / "locked", port=free_port())
    server = postgres.start()
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.tcp_url().replace(postgres.password, "guess"))
    server.stop()
    valkey = Valkey(HOME / "locked-valkey", port=free_port(), throwaway=True)
    server = valkey.start()
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(port=valkey.port, retry=Retry(NoBackoff(), 0)).ping()
    server.stop()
    assert valkey.password not in " ".join(valkey.command())


def test_a_long_path_falls_back_to_tcp(tmp_path: Path) -> None:
    postgres = Postgres(tmp_path / ("long" * 20), port=1234)
    (tmp_path / ("long" * 20)).mkdir()
    assert postgres.url() == postgres.tcp_url()


def test_a_child_does_not_outlive_a_killed_parent() -> None:
    nap = child_command(["sleep", "1000"], signal.SIGKILL)
    code = f"import subprocess; p = subprocess.Popen({nap!r}); print(p.pid, flush=True); p.wait()"
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout as answers:
        child = int(answers.readline())
        status = Path(f"/proc/{child}/comm")
        assert wait_until(lambda: status.read_text() == "sleep\n", 10, lambda: True)
        parent.kill()
        parent.wait()

    def gone() -> bool:
        state = Path(f"/proc/{child}/stat")
        return not state.exists() or state.read_text().rsplit(")")[1].split()[0] == "Z"

    assert wait_until(gone, 10, lambda: True)


def test_a_server_that_cannot_start_says_why() -> None:
    valkey = Valkey(HOME / "broken", port=free_port(), throwaway=True)
    valkey.prepare()
    valkey.prepare = lambda: None  # type: ignore[method-assign] # keep the broken file
    (valkey.home / "valkey.conf").write_text("no-such-option yes\n")
    with pytest.raises(ServerError, match="no-such-option"):
        valkey.start()


def test_a_failing_command_says_why() -> None:
    with pytest.raises(ServerError, match="cp failed"):
        run(["cp", "/nonexistent", "/nowhere"])


def test_a_secret_is_made_once_and_private(tmp_path: Path) -> None:
    secret = secret_in(tmp_path / "secret")
    assert secret == secret_in(tmp_path / "secret")
    assert len(secret) >= 32
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
