"""Two thousand clients whose submits wait for the end (`Prefer: wait`), on one web process.

Memory of the process, and how long after its task's end each client has its answer. The tasks are with a vendor that
takes a while, so that they hold no thread of a worker.
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

AT_ONCE = 100  # submits in flight: the clients come one after the other, and stay
PER_SECOND = 40  # they come no faster than submits are stored


async def one(base: str, wanted: Wanted, gate: asyncio.Semaphore, lates: list[float]) -> None:
    async with Connection(base) as connection:
        async with gate:
            asked = asyncio.create_task(connection.ask(wanted))
            await asyncio.sleep(AT_ONCE / PER_SECOND)
        status, body = await asked
        answered = time.time()
        assert status == 201, body[:300]
        task = json.loads(body)
        assert task["terminal"], task["phase"]
        lates.append(answered - datetime.fromisoformat(task["finished_at"]).timestamp())


async def crowd(base: str, wanted: Wanted, count: int, web: Process) -> tuple[list[float], float]:
    """How late each answer was, and the most memory of the web process."""
    lates: list[float] = []
    gate, most = asyncio.Semaphore(AT_ONCE), 0.0
    clients = [asyncio.create_task(one(base, wanted, gate, lates)) for _ in range(count)]
    while not all(client.done() for client in clients):
        most = max(most, rss(web))
        await asyncio.sleep(0.5)
    await asyncio.gather(*clients)
    return lates, most


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
            lates, weight = uvloop.run(crowd(ground.base, wanted, options.clients, running[0]))
        about = {"clients": options.clients, "at_rest_MB": before}
        report("Waiting clients: memory of the web process", "MB", [weight], **about)
        p50, p99 = (round(percentile(lates, p) * 1000) for p in (50, 99))
        report("Waiting clients: answer after the end", "ms", [p50], p99_ms=p99)


if __name__ == "__main__":
    main()
