"""The schema: recognised as current, older or newer; and what a process makes of it."""

import pytest
from django.db import OperationalError, connection

from genpulse import schema, startup
from genpulse.config import config
from genpulse.refusals import ConfigError

pytestmark = pytest.mark.django_db


def forget_one_migration() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE app = 'tasks' AND name = '0001_initial'"
        )


def record_a_future_migration() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('tasks', '9999_future', now())"
        )


def test_the_test_database_is_current():
    assert schema.state() == "current"


def test_a_missing_migration_makes_it_older():
    forget_one_migration()
    assert schema.state() == "older"


def test_an_unknown_migration_makes_it_newer():
    record_a_future_migration()
    assert schema.state() == "newer"


@pytest.fixture
def kept_connection(monkeypatch):
    """Closing would end the test's own transaction; what a close lets go of is let go of here."""
    monkeypatch.setattr(connection, "close", lambda: None)
    yield
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_unlock_all()")


def test_migrating_a_current_schema_changes_nothing_and_names_the_views(kept_connection):
    assert schema.migrate() == 0
    assert schema.migrate() == 0
    assert set(schema.VIEWS) | set(schema.VIEWS.values()) <= set(schema.names())


def test_a_newer_schema_is_not_migrated(kept_connection):
    record_a_future_migration()
    with pytest.raises(RuntimeError, match="newer"):
        schema.migrate()


def refused(**options) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        startup.check(**options)
    return caught.value.reasons


def test_a_process_starts_on_a_current_schema(kept_connection):
    startup.check()


def test_a_process_refuses_a_newer_schema_at_once(kept_connection):
    record_a_future_migration()
    assert refused() == ["DATABASE_URL: the schema is newer than this program; upgrade it"]


def test_a_process_waits_for_an_older_schema_and_then_says_what_is_missing(kept_connection):
    forget_one_migration()
    assert refused(patience=0.3) == ["DATABASE_URL: migrations are missing; run `genpulse init-db`"]


def test_a_process_goes_on_when_the_migration_comes(kept_connection, monkeypatch):
    states = iter(["older", "current"])
    monkeypatch.setattr(schema, "state", lambda: next(states))
    startup.check()


def test_a_process_needs_its_servers_and_secret(monkeypatch):
    for name in ("database_url", "redis_url", "secret_key"):
        monkeypatch.setattr(config, name, "")
    assert [line.split(":")[0] for line in refused()] == ["DATABASE_URL", "REDIS_URL", "SECRET_KEY"]


def test_an_old_postgres_is_refused(monkeypatch, kept_connection):
    monkeypatch.setattr(startup, "postgres_version", lambda: 130012)
    assert refused() == ["DATABASE_URL: PostgreSQL 13 is too old; GenPulse needs 14 or newer"]


def test_a_database_that_never_answers_is_named_without_its_address(monkeypatch, kept_connection):
    def away():
        raise OperationalError("connection to hunter2@db failed")

    monkeypatch.setattr(startup, "postgres_version", away)
    (reason,) = refused(patience=0.2)
    assert reason == "DATABASE_URL: cannot connect: OperationalError"


@pytest.fixture
def production(monkeypatch, kept_connection):
    monkeypatch.setattr(config, "environment", "production")


def test_production_refuses_a_broker_that_evicts(production, clean_redis):
    clean_redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert refused() == [
            "REDIS_URL: the broker evicts keys (allkeys-lru); set maxmemory-policy noeviction"
        ]
    finally:
        clean_redis.config_set("maxmemory-policy", "noeviction")


def test_production_starts_while_the_broker_is_away(production, monkeypatch):
    monkeypatch.setattr(config, "redis_url", "redis://127.0.0.1:1/0")
    startup.check()
