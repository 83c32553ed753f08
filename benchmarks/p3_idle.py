"""P3: on an idle machine, from the answer to a submit until the provider is called.

The provider notes when a prompt arrives. The baseline is one hop of bare Celery on the same broker: from the LPUSH
to the job. One after the other, a pause between.
"""

import argparse
import json
import os
import sys
import time
from typing import Any

import redis
import requests

from benchmarks import cast
from benchmarks.ground import Ground, await_answer, started
from benchmarks.report import percentile, report
from genpulse.embedded import free_port

PAUSE = 0.15


def submitted(session: requests.Session, base: str, prompt: str) -> float:
    """When the answer was here."""
    body = {"model": "qwen-bench", "input": {"prompt": prompt, "max_tokens": 1}}
    answer = session.post(f"{base}/api/v1/tasks", json.dumps(body), timeout=30)
    assert answer.status_code == 201, answer.text
    return time.time()


def hop(client: Any) -> float:
    """Seconds from publishing to the job."""
    from benchmarks.bare import hop as job
    from benchmarks.bare import hops_key

    job.apply_async((time.time(),), retry=False)
    _, took = client.blpop(hops_key, timeout=30)
    return float(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=200)
    options = parser.parse_args()
    port = free_port()
    vendor = f"http://127.0.0.1:{port}"
    upstream = [sys.executable, "-m", "uvicorn", "benchmarks.upstream:application"]
    with Ground() as ground:
        from benchmarks.bare import command

        key = cast.key_of("bench")
        cast.executor("qwen", base_url=f"{vendor}/v1")
        commands = [[*upstream, "--port", str(port), "--log-level", "error"], command("hop")]
        with started(commands), ground.processes("web", "orchestrator", "worker"):
            await_answer(f"{vendor}/v1/models")
            measure(ground.base, key, vendor, options.tasks)


def measure(base: str, key: str, vendor: str, count: int) -> None:
    session, client = requests.Session(), redis.Redis.from_url(os.environ["REDIS_LIVE_URL"])
    session.headers.update(cast.headers(key))
    answered, hops = {}, []
    for number in range(-10, count):  # the first ones warm up
        answered[f"{number}"] = submitted(session, base, f"{number}")
        time.sleep(PAUSE)
        hops.append(hop(client))
        time.sleep(PAUSE)
    time.sleep(1)
    arrived = requests.get(f"{vendor}/seen", timeout=30).json()["arrived"]
    waits = [(arrived[str(number)] - answered[str(number)]) * 1000 for number in range(count)]
    hops = [seconds * 1000 for seconds in hops[10:]]
    for percent in (50, 99):
        mine, bare = percentile(waits, percent), percentile(hops, percent)
        report(f"P3 idle latency p{percent}", "ms", [mine], [bare], tasks=count)


if __name__ == "__main__":
    main()
