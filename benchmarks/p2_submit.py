"""P2: `POST /api/v1/tasks` per second and p99 at 32 connections, with key, idempotency key, hold and commit.

The baseline is `/row` of `benchmarks.small` on the same server. Runs alternate; only the web processes run.
"""

import argparse
import statistics
import sys
from functools import partial

from benchmarks import cast, small
from benchmarks.client import Load, Wanted, load
from benchmarks.ground import Ground, await_answer, started
from benchmarks.report import percentile, report
from genpulse.embedded import free_port

CONNECTIONS = 32


def submit(key: str, run: int, number: int) -> Wanted:
    named = cast.headers(key, Idempotency_Key=f"{run}-{number}")
    return Wanted("POST", "/api/v1/tasks", named, cast.text_task(latency=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with Ground() as ground:
        key = cast.key_of("bench")
        cast.executor()
        small.make_table()
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "benchmarks.small", str(port)]
        row = Wanted("POST", "/row", cast.headers(key), cast.text_task(latency=0))
        measure = partial(load, connections=CONNECTIONS, status=201)
        with ground.processes("web"), started([command]):
            await_answer(f"{base}/empty")
            ours: list[Load] = []
            theirs: list[Load] = []
            for run in range(-1, options.runs):  # the first one warms up and does not count
                seconds = options.seconds if run >= 0 else min(options.seconds, 2)
                ours.append(measure(ground.base, partial(submit, key, run), seconds=seconds))
                theirs.append(measure(base, lambda _: row, seconds=seconds))
        conclude(ours[1:], theirs[1:])


def conclude(ours: list[Load], theirs: list[Load]) -> None:
    tails = [[percentile(one.took, 99) * 1000 for one in side] for side in (ours, theirs)]
    report(
        "P2 submits",
        "per second",
        [one.per_second for one in ours],
        [one.per_second for one in theirs],
        p50_ms=round(statistics.median(percentile(one.took, 50) * 1000 for one in ours), 1),
    )
    report("P2 p99 of submits", "ms", *tails)


if __name__ == "__main__":
    main()
