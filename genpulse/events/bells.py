"""The doorbell: Redis PUBLISH after a commit. Redis being away changes speed, never a result.

A bell for tasks also leaves the newest seq of each for two seconds, beside which somebody may keep how the task
looked then (`tasks.snapshots`). What is older than the last bell never gets there.
"""

import json
from collections.abc import Iterator, Mapping
from functools import cache
from threading import Event
from typing import Any

import redis
import structlog

from genpulse.config import config

ADMIT = "gp:bell"  # wakes the orchestrator's admit loop
KEEP_NEWEST = """
for i, key in ipairs(KEYS) do
  local known = string.match(redis.call('GET', key) or '', '^%d+')
  local seq = tonumber(ARGV[i + 1])
  if not known or tonumber(known) < seq or (ARGV[1] ~= '' and tonumber(known) == seq) then
    redis.call('SET', key, ARGV[i + 1] .. '\\n' .. ARGV[1], 'PX', 2000)
  end
end
"""
log = structlog.get_logger(__name__)


@cache
def live() -> "redis.Redis":
    """The Redis that holds only what may be lost (REDIS_LIVE_URL). Every key there has a TTL."""
    return redis.Redis.from_url(
        config.redis_live_url, socket_timeout=2, socket_connect_timeout=1, health_check_interval=10
    )


def ring(messages: Mapping[str, Any]) -> None:
    """Publish one message per channel in a single round trip; being unheard is allowed, so errors are only logged."""
    rung = [pair for message in messages.values() if isinstance(message, list) for pair in message]
    try:
        pipe = live().pipeline(transaction=False)
        _keep(pipe, {task: seq for task, seq in rung if seq})
        for channel, message in messages.items():
            pipe.publish(channel, json.dumps(message))
        pipe.execute()
    except redis.RedisError as error:
        log.warning("bell.unheard", error=type(error).__name__)


def newest(task: str) -> str:
    """Where the newest seq of a task is kept, and after a line break what looked like that."""
    return f"gp:t:{task}"


def keep_newest(seqs: Mapping[str, int], text: str = "") -> None:
    """Put (task -> seq) and `text` in the place of what is older. Errors as for `ring`."""
    try:
        _keep(live(), seqs, text)
    except redis.RedisError as error:
        log.warning("bell.unheard", error=type(error).__name__)


def _keep(client: "redis.Redis", seqs: Mapping[str, int], text: str = "") -> None:
    if seqs:
        client.eval(KEEP_NEWEST, len(seqs), *map(newest, seqs), text, *map(str, seqs.values()))


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
