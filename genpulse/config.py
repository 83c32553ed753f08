"""All configuration, from the environment: one typed object, `config`.

Names, aliases, defaults and units are those of docs/configuration.md. `load()` collects every
complaint and raises `ConfigError` with one line per reason, so that an operator fixes all of them
at once. Processes call it through Django's settings; tests set attributes of `config`.
"""

import hashlib
import hmac
import re
import socket
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from genpulse import addresses
from genpulse.refusals import ConfigError, refusals

__all__ = ["Config", "ConfigError", "config", "load"]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(value: Any) -> float | None:
    """`30`, `30s`, `10m`, `2h`, `1d` or `none` -> seconds. Raises ValueError otherwise."""
    if value is None or isinstance(value, (int, float)):
        return value
    text = str(value).strip().lower()
    if text in {"", "none"}:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text)
    if not match:
        raise ValueError("want seconds, or a number with s, m, h or d")
    return float(match[1]) * UNITS[match[2] or "s"]


def per_minute(value: Any) -> int:
    """`6000/min`, `6000` -> 6000 requests a minute; 0 switches the limit off."""
    if isinstance(value, int):
        return value
    match = re.fullmatch(r"(\d+)(?:/min)?", str(value).strip())
    if not match:
        raise ValueError("want a number of requests a minute, such as 6000/min")
    return int(match[1])


def words(value: Any) -> Any:
    """`a, b` -> `["a", "b"]`."""
    return (
        [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, str)
        else value
    )


Seconds = Annotated[float, BeforeValidator(seconds)]
OptionalSeconds = Annotated[float | None, BeforeValidator(seconds)]
PerMinute = Annotated[int, BeforeValidator(per_minute)]
Words = Annotated[list[str], NoDecode, BeforeValidator(words)]


def named(*names: str) -> Any:
    """The environment names of a field, the first one wins."""
    return AliasChoices(*names)


class Config(BaseSettings):
    """See docs/configuration.md for the meaning of every name."""

    model_config = SettingsConfigDict(
        extra="ignore", env_file=None, populate_by_name=True, env_ignore_empty=True
    )

    environment: Literal["development", "production"] = Field(
        "development", validation_alias=named("ENVIRONMENT", "ENV")
    )
    debug: bool = False
    data_dir: Path = Field(Path(".genpulse"), validation_alias="GENPULSE_DATA")
    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: Words = []
    base_url: str = Field("", validation_alias=named("BASE_URL", "PUBLIC_URL"))

    # PostgreSQL and Redis
    database_url: str = ""
    db_host: str = ""
    db_port: int = 5432
    postgres_db: str = "genpulse"
    postgres_user: str = "genpulse"
    postgres_password: str = ""
    mongo_url: str = ""
    redis_url: str = ""
    redis_host: str = ""
    redis_port: int = 6379
    redis_live_url: str = ""

    # Secrets
    secret_key: str = Field("", validation_alias=named("SECRET_KEY", "JWT_SECRET_KEY"))
    encryption_keys: str = ""
    admin_api_token: str = ""
    service_api_token: str = ""
    jwt_access_token_expires: int = 3600
    jwt_refresh_token_expires: int = 604800

    # Storage
    storage_type: str = "local"
    storage_local_path: Path | None = None
    storage_base_url: str = ""
    upload_token_secret: str = ""
    upload_token_ttl: Seconds = Field(3600, ge=1)
    s3_endpoint_url: str = ""
    s3_access_key: str = ""
    s3_secret_key: str = ""
    s3_bucket_name: str = ""
    s3_region_name: str = ""
    oss_endpoint: str = ""
    oss_region: str = ""
    oss_bucket: str = ""
    oss_access_key: str = Field("", validation_alias=named("OSS_ACCESS_KEY", "OSS_AK"))
    oss_secret_key: str = Field("", validation_alias=named("OSS_SECRET_KEY", "OSS_SK"))
    oss_public_domain: str = Field(
        "", validation_alias=named("OSS_PUBLIC_DOMAIN", "OSS_DOWNLOAD_DOMAIN")
    )
    oss_root_prefix: str = "uploads"
    oss_role_arn: str = ""
    oss_sts_duration: int = 900
    oss_sts_endpoint: str = ""
    oss_callback_secret: str = ""
    oss_allow_long_lived: bool = False

    # Vendors: the first credential and executor of each
    ark_api_key: str = Field("", validation_alias=named("ARK_API_KEY", "VOLCENGINE_API_KEY"))
    ark_base_url: str = ""
    openai_api_key: str = ""
    openai_base_url: str = ""
    gemini_api_key: str = ""
    gemini_service_url: str = ""
    deepseek_api_key: str = ""
    deepseek_service_url: str = ""
    dashscope_api_key: str = ""
    dashscope_base_url: str = ""
    llm_service_url: str = Field("", validation_alias=named("LLM_SERVICE_URL", "QWEN_SERVICE_URL"))
    comfy_url: str = ""
    coze_base_url: str = ""
    coze_api_token: str = ""
    coze_default_timeout: Seconds = 180
    coze_loop_base_url: str = ""
    ai_timeout: Seconds = 30
    gemini_timeout: Seconds = 120
    qwen_timeout: Seconds = 300
    deepseek_timeout: Seconds = 300

    # Agents
    agent_jwt_secrets: str = ""
    agent_jwt_default_kid: str = ""
    agent_task_token_ttl: Seconds = 600
    agent_heartbeat_token_ttl: Seconds = 3600
    agent_task_timeout_seconds: Seconds = 3600
    agent_manifest_base_url: str = ""
    agent_offline_seconds: Seconds = 180

    # Workers and loops: everything a test may want to scale
    worker_id: str = Field(
        default_factory=socket.gethostname,
        validation_alias=named(
            "WORKER_ID", "GEMINI_WORKER_ID", "QWEN_WORKER_ID", "DEEPSEEK_WORKER_ID"
        ),
    )
    worker_concurrency: int = Field(
        64, ge=1, le=1024, validation_alias=named("WORKER_CONCURRENCY", "ABILITY_TASK_MAX_WORKERS")
    )
    worker_queues: Words = Field([], validation_alias=named("WORKER_QUEUES", "STREAM_KEY"))
    shutdown_grace: Seconds = 20
    quarantine_idle: Seconds = 60
    worker_max_rss: int = 1 << 30
    lease_seconds: Seconds = 15
    heartbeat_seconds: Seconds = 2
    leader_seconds: Seconds = 3
    tick_admit: Seconds = 0.25
    tick_poll: Seconds = 0.5
    tick_reap: Seconds = 1
    tick_deliver: Seconds = 0.5
    tick_chores: Seconds = 30
    poll_min: Seconds = 2
    poll_max: Seconds = 30
    republish_seconds: Seconds = 5
    visibility_timeout: Seconds = 600
    recorder_window: Seconds = 0.005
    find_delays: Annotated[
        list[float],
        NoDecode,
        BeforeValidator(lambda v: [float(x) for x in v.split(",")] if isinstance(v, str) else v),
    ] = [5, 30, 120, 600, 3600]
    backoff_scale: float = 1.0

    # Limits (0 = off)
    rate_limit_write: PerMinute = 6000
    rate_limit_read: PerMinute = 12000
    rate_limit_login: PerMinute = 10
    max_waiting_per_user: int = 10_000
    max_concurrency_per_user: int = 0
    max_body_bytes: int = 20 << 20
    max_upload_bytes: int = 100 << 20
    max_fanout_models: int = 10
    sync_wait_max: Seconds = 590

    # Money and keeping
    signup_credits: str = "0"
    unpriced_models: Literal["free", "refuse", ""] = ""
    hold_ttl: Seconds = 86400
    blocked_ttl: Seconds = 86400
    verify_ttl: Seconds = 86400
    result_retention: OptionalSeconds = None
    event_retention: Seconds = 30 * 86400
    store_false_ttl: Seconds = 3600

    # Behaviour
    sandbox_enabled: bool | None = None
    default_family: str = ""
    default_chat_model: str = "gemini-2.5-flash"
    default_image_model: str = "stable-diffusion-3"
    default_video_model: str = ""
    default_image_provider: str = ""
    default_video_provider: str = ""
    default_audio_provider: str = ""
    default_chat_provider: str = ""
    context_turns: int = 10
    context_tokens: int = 8000
    refusal_phrases: Words = ["I cannot create images", "无法创建图片"]
    ability_queue_limit: int = 10

    # Doors
    cors_allowed_origins: Words = []
    outbound_allowed_hosts: Words | None = None
    comfy_allowed_hosts: Words | None = None
    dev_anonymous_user: str = ""
    metrics_token: str = ""
    flower_basic_auth: str = ""
    broker_serializer: str = Field("json", validation_alias="CELERY_TASK_SERIALIZER")

    # Logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_dir: Path | None = None
    log_keep_days: int = 7
    enable_db_log: bool = False
    enable_detailed_logging: bool = False
    sentry_dsn: str = ""

    @property
    def production(self) -> bool:
        return self.environment == "production"

    @model_validator(mode="before")
    @classmethod
    def _short_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        for name in ("environment", "ENVIRONMENT", "ENV"):
            if values.get(name) in {"prod", "dev"}:
                values[name] = {"prod": "production", "dev": "development"}[values[name]]
        return values

    @model_validator(mode="after")
    def _defaults_that_follow(self) -> Self:
        development = not self.production
        self.unpriced_models = self.unpriced_models or ("free" if development else "refuse")
        if self.sandbox_enabled is None:
            self.sandbox_enabled = development
        if self.outbound_allowed_hosts is None:
            self.outbound_allowed_hosts = ["127.0.0.1:*", "localhost:*"] if development else []
        if self.comfy_allowed_hosts is None:
            self.comfy_allowed_hosts = ["127.0.0.1:8188", "localhost:8188"] if development else []
        self.storage_local_path = self.storage_local_path or self.data_dir / "assets"
        self.log_dir = self.log_dir or self.data_dir / "logs"
        self.base_url = self.base_url or f"http://127.0.0.1:{self.port}"
        self.agent_manifest_base_url = self.agent_manifest_base_url or self.base_url
        self._servers()
        self._derived_secrets()
        return self

    def _servers(self) -> None:
        self.database_url = addresses.database_url(
            self.database_url,
            self.db_host,
            self.db_port,
            user=self.postgres_user,
            password=self.postgres_password,
            name=self.postgres_db,
        )
        if self.redis_host and not self.redis_url:
            self.redis_url = f"redis://{self.redis_host}:{self.redis_port}/0"
        self.redis_live_url = self.redis_live_url or addresses.next_database(self.redis_url)

    def _derived_secrets(self) -> None:
        """One secret less to configure each: the same on every machine of an installation."""
        if not self.secret_key:
            return
        self.upload_token_secret = self.upload_token_secret or self._derive("upload-token")
        self.agent_jwt_secrets = self.agent_jwt_secrets or f"k1:{self._derive('agent-token')}"

    def _derive(self, purpose: str) -> str:
        return hmac.digest(
            self.secret_key.encode(), f"genpulse.{purpose}".encode(), hashlib.sha256
        ).hex()


def load() -> Config:
    """Read the environment. Raises ConfigError with every unusable or, in production, unsafe value."""
    try:
        loaded = Config()
    except ValidationError as error:
        raise ConfigError(
            [f"{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}" for item in error.errors()]
        ) from None
    if reasons := refusals(loaded):
        raise ConfigError(reasons)
    return loaded


config = load()
