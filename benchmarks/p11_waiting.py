"""Two thousand clients whose submits wait for the end (`Prefer: wait`), all at once, on one web process.

Memory of the process, and how long after its task's end each client has its answer. The tasks are with a vendor that
takes a while, so that they hold no thread of a worker. Who is refused comes again when told to.
"""

import argparse
import asyncio
import json
import resource
import time
from datetime import datetime

import uvloop

from benchmarks import cast
from benchmarks.client import Connection, Wanted
from benchmarks.ground import Ground, Process, rss
from benchmarks.report import percentile, report


async def one(base: str, wanted: Wanted) -> tuple[float, float, int]:
    """Seconds until its task was stored, seconds from its end to the answer, and how often it was refused."""
    began, refused = time.time(), 0
    async with Connection(base) as connection:
        while (asked := await connection.ask(wanted))[0] == 503:
            refused += 1
            await asyncio.sleep(json.loads(asked[1])["retry_after"])
        answered, (status, body) = time.time(), asked
    assert status == 201, body[:300]
    task = json.loads(body)
    assert task["terminal"], task["phase"]
    stored, ended = (
        datetime.fromisoformat(task[name]).timestamp() for name in ("created_at", "finished_at")
    )
    return stored - began, answered - ended, refused


async def crowd(
    base: str, wanted: Wanted, count: int, web: Process
) -> tuple[list[tuple[float, float, int]], float]:
    """What each client saw, and the most memory of the web process."""
    most = 0.0
    clients = [asyncio.create_task(one(base, wanted)) for _ in range(count)]
    while not all(client.done() for client in clients):
        most = max(most, rss(web))
        await asyncio.sleep(0.5)
    return await asyncio.gather(*clients), most


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=30, help="what a task takes")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with Ground() as ground:
        cast.executor(slots=2 * options.clients)
        named = cast.headers(cast.key_of("bench"), Prefer="wait=60")
        body = cast.text_task(latency=options.seconds, mode="accept")
        with ground.processes("web", "orchestrator", "worker") as running:
            before = rss(running[0])
            wanted = Wanted("POST", "/api/v1/tasks", named, body)
            seen, weight = uvloop.run(crowd(ground.base, wanted, options.clients, running[0]))
        stored, lates, refused = zip(*seen, strict=True)
        about = {"clients": options.clients, "at_rest_MB": before}
        report("Waiting clients: memory of the web process", "MB", [weight], **about)
        p50, p99 = (round(percentile(stored, p), 1) for p in (50, 99))
        report("Waiting clients: until stored", "s", [p50], p99_s=p99, refused=sum(refused))
        p50, p99 = (round(percentile(lates, p) * 1000) for p in (50, 99))
        report("Waiting clients: answer after the end", "ms", [p50], p99_ms=p99)


if __name__ == "__main__":
    main()
