"""The doorbell: Redis PUBLISH after a commit. Redis being away changes speed, never a result."""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from threading import Event
from typing import Any

import redis
import structlog

from genpulse.config import config

ADMIT = "gp:bell"  # wakes the orchestrator's admit loop
log = structlog.get_logger(__name__)


@cache
def live() -> "redis.Redis":
    """The Redis that holds only what may be lost (REDIS_LIVE_URL). Every key there has a TTL."""
    return redis.Redis.from_url(
        config.redis_live_url, socket_timeout=2, socket_connect_timeout=1, health_check_interval=10
    )


def ring(messages: Mapping[str, Any]) -> None:
    """Publish one message per channel in a single round trip; being unheard is allowed, so errors are only logged."""
    try:
        pipe = live().pipeline(transaction=False)
        for channel, message in messages.items():
            pipe.publish(channel, json.dumps(message))
        pipe.execute()
    except redis.RedisError as error:
        log.warning("bell.unheard", error=type(error).__name__)


def ring_admit() -> None:
    """Tell the orchestrator that work waits or that a slot is free."""
    ring({ADMIT: 1})


def listen(channel: str, stopping: Event) -> Iterator[None]:
    """Once for each ring of `channel`, until `stopping`. Raises redis.RedisError when Redis is away."""
    connect: Any = live().pubsub
    pubsub = connect(ignore_subscribe_messages=True)
    with pubsub:
        pubsub.subscribe(channel)
        while not stopping.is_set():
            if pubsub.get_message(timeout=1):
                yield
