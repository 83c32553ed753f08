"""The environment as operators write it: aliases, units, defaults, and what is refused."""

import base64
import os

import pytest

from genpulse.config import ConfigError, load

KEYS = "k1:" + base64.b64encode(b"k" * 32).decode()
PRODUCTION = {
    "ENVIRONMENT": "production",
    "SECRET_KEY": "3q8Zb1Yw5uXc7nT0mKs9dLf2hGj4rPvA",
    "ENCRYPTION_KEYS": KEYS,
    "DATABASE_URL": "postgresql://genpulse@db/genpulse",
    "REDIS_URL": "redis://broker:6379/0",
    "ALLOWED_HOSTS": "genpulse.example",
}


@pytest.fixture
def environment(monkeypatch):
    """Sets exactly these names; the rest of the environment is gone."""

    def become(**names):
        for name in list(os.environ):
            monkeypatch.delenv(name)
        for name, value in names.items():
            monkeypatch.setenv(name, value)

    become()
    return become


def reasons(environment, **names):
    environment(**names)
    with pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value) == "\n".join(caught.value.reasons)
    return caught.value.reasons


def test_an_empty_environment_is_a_development_machine(environment):
    config = load()
    assert not config.production
    assert (config.host, config.port, config.base_url) == (
        "127.0.0.1",
        8000,
        "http://127.0.0.1:8000",
    )
    assert config.unpriced_models == "free"
    assert config.sandbox_enabled is True
    assert config.outbound_allowed_hosts == ["127.0.0.1:*", "localhost:*"]
    assert config.database_url == config.redis_url == config.redis_live_url == ""


def test_production_closes_doors_by_default(environment):
    environment(**PRODUCTION)
    config = load()
    assert config.production
    assert config.unpriced_models == "refuse"
    assert config.sandbox_enabled is False
    assert config.outbound_allowed_hosts == []
    assert config.comfy_allowed_hosts == []
    assert config.cors_allowed_origins == []


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("ENV", "prod", "environment", "production"),
        ("JWT_SECRET_KEY", "x" * 32, "secret_key", "x" * 32),
        ("VOLCENGINE_API_KEY", "ark", "ark_api_key", "ark"),
        ("QWEN_SERVICE_URL", "http://q", "llm_service_url", "http://q"),
        ("OSS_AK", "ak", "oss_access_key", "ak"),
        ("OSS_SK", "sk", "oss_secret_key", "sk"),
        ("OSS_DOWNLOAD_DOMAIN", "cdn", "oss_public_domain", "cdn"),
        ("ABILITY_TASK_MAX_WORKERS", "7", "worker_concurrency", 7),
        ("STREAM_KEY", "sd, gemini", "worker_queues", ["sd", "gemini"]),
        ("GEMINI_WORKER_ID", "w9", "worker_id", "w9"),
        ("AI_TIMEOUT", "2m", "ai_timeout", 120),
        ("AI_TIMEOUT", "30", "ai_timeout", 30),
        ("AI_TIMEOUT", "30s", "ai_timeout", 30),
        ("HOLD_TTL", "2h", "hold_ttl", 7200),
        ("EVENT_RETENTION", "1d", "event_retention", 86400),
        ("RESULT_RETENTION", "none", "result_retention", None),
        ("RATE_LIMIT_WRITE", "60/min", "rate_limit_write", 60),
        ("RATE_LIMIT_READ", "0", "rate_limit_read", 0),
        ("FIND_DELAYS", "1,2.5", "find_delays", [1.0, 2.5]),
        ("REFUSAL_PHRASES", "no, nein", "refusal_phrases", ["no", "nein"]),
    ],
)
def test_names_aliases_and_units(environment, name, text, field, value):
    environment(**(PRODUCTION if text == "prod" else {}) | {name: text})
    os.environ.pop("ENVIRONMENT", None)
    assert getattr(load(), field) == value


def test_the_first_name_wins_over_its_alias(environment):
    environment(WORKER_CONCURRENCY="3", ABILITY_TASK_MAX_WORKERS="9")
    assert load().worker_concurrency == 3


def test_parts_make_the_addresses(environment):
    environment(DB_HOST="db", POSTGRES_PASSWORD="pw", REDIS_HOST="cache", REDIS_PORT="6380")
    config = load()
    assert config.database_url == "postgresql://genpulse:pw@db:5432/genpulse"
    assert config.redis_url == "redis://cache:6380/0"
    assert config.redis_live_url == "redis://cache:6380/1"


def test_a_url_wins_over_parts(environment):
    environment(
        DB_HOST="x",
        DATABASE_URL="postgresql+asyncpg://u@h/d",
        REDIS_HOST="x",
        REDIS_URL="redis://h/3",
    )
    config = load()
    assert config.database_url == "postgresql://u@h/d"
    assert (config.redis_url, config.redis_live_url) == ("redis://h/3", "redis://h/4")


def test_secrets_that_follow_from_the_secret_key_differ_by_purpose(environment):
    environment(SECRET_KEY="s" * 40)
    config = load()
    assert config.agent_jwt_secrets.startswith("k1:")
    assert len({config.secret_key, config.upload_token_secret, config.agent_jwt_secrets[3:]}) == 3
    assert load().upload_token_secret == config.upload_token_secret


def test_every_unusable_value_is_named_at_once(environment):
    complaints = reasons(environment, PORT="many", AI_TIMEOUT="soon", WORKER_CONCURRENCY="0")
    assert sorted(line.split(":")[0] for line in complaints) == [
        "AI_TIMEOUT",
        "PORT",
        "WORKER_CONCURRENCY",
    ]


@pytest.mark.parametrize(
    ("names", "start"),
    [
        ({"DATABASE_URL": "mysql://u@h/d"}, "DATABASE_URL: mysql is not supported"),
        ({"DATABASE_URL": "sqlite:///x.db"}, "DATABASE_URL: sqlite is not supported"),
        ({"MONGO_URL": "mongodb://h"}, "MONGO_URL: MongoDB is not supported"),
        ({"REDIS_URL": "amqp://h", "REDIS_LIVE_URL": "redis://h"}, "REDIS_URL: want redis://"),
        ({"REDIS_URL": "redis://h", "REDIS_LIVE_URL": "http://h"}, "REDIS_LIVE_URL: want redis://"),
        ({"STORAGE_TYPE": "ftp"}, "STORAGE_TYPE: 'ftp' is none of local, s3, oss"),
        ({"CELERY_TASK_SERIALIZER": "pickle"}, "CELERY_TASK_SERIALIZER: messages are JSON"),
        ({"ENCRYPTION_KEYS": "k1:short"}, "ENCRYPTION_KEYS: want id:base64 of 32 bytes"),
        ({"ENCRYPTION_KEYS": "nocolon"}, "ENCRYPTION_KEYS: want id:base64 of 32 bytes"),
    ],
)
def test_refused_in_every_environment(environment, names, start):
    (only,) = reasons(environment, **names)
    assert only.startswith(start)


def test_mongo_beside_a_database_is_ignored(environment):
    environment(MONGO_URL="mongodb://h", DATABASE_URL="postgresql://h/d")
    assert load().database_url == "postgresql://h/d"


@pytest.mark.parametrize(
    ("change", "start"),
    [
        ({"DEBUG": "true"}, "DEBUG: must be off"),
        ({"SECRET_KEY": ""}, "SECRET_KEY: missing"),
        ({"ENCRYPTION_KEYS": ""}, "ENCRYPTION_KEYS: missing"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY: shorter than 32"),
        ({"SECRET_KEY": "change-me-change-me-change-me-change-me"}, "SECRET_KEY: a placeholder"),
        ({"SECRET_KEY": "this-is-a-SUPER-SECRET-key-of-length-40!"}, "SECRET_KEY: a placeholder"),
        ({"ADMIN_API_TOKEN": "admin"}, "ADMIN_API_TOKEN: shorter than 32"),
        ({"SERVICE_API_TOKEN": "secret"}, "SERVICE_API_TOKEN: shorter than 32"),
        ({"DATABASE_URL": ""}, "DATABASE_URL: missing"),
        ({"REDIS_URL": ""}, "REDIS_URL: missing"),
        ({"CORS_ALLOWED_ORIGINS": "https://a.example,*"}, "CORS_ALLOWED_ORIGINS: *"),
        ({"ALLOWED_HOSTS": ""}, "ALLOWED_HOSTS: name"),
        ({"ALLOWED_HOSTS": "*"}, "ALLOWED_HOSTS: name"),
        ({"DEV_ANONYMOUS_USER": "bob"}, "DEV_ANONYMOUS_USER: for development"),
        ({"OSS_ALLOW_LONG_LIVED": "1"}, "OSS_ALLOW_LONG_LIVED: long-lived"),
        ({"COMFY_ALLOWED_HOSTS": "*"}, "COMFY_ALLOWED_HOSTS: *"),
    ],
)
def test_refused_in_production(environment, change, start):
    (only,) = reasons(environment, **PRODUCTION | change)
    assert only.startswith(start)


def test_production_lists_all_reasons_and_no_secret(environment):
    complaints = reasons(environment, ENVIRONMENT="production", SECRET_KEY="hunter2", DEBUG="1")
    assert len(complaints) == 6
    assert "hunter2" not in "\n".join(complaints)
