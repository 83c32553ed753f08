"""P2: `POST /api/v1/tasks` per second and p99 at 32 connections, with key, idempotency key, hold and commit.

The baseline is `/row` of `benchmarks.small` on the same server. Runs alternate; only the web processes run.
"""

import statistics
from functools import partial

from benchmarks import cast, small
from benchmarks.client import Load, Wanted, load
from benchmarks.ground import Ground
from benchmarks.report import percentile, report
from benchmarks.turns import asked_for, by_turns, small_beside

CONNECTIONS = 32


def submit(key: str, run: int, number: int) -> Wanted:
    named = cast.headers(key, Idempotency_Key=f"{run}-{number}")
    return Wanted("POST", "/api/v1/tasks", named, cast.text_task(latency=0))


def main() -> None:
    options = asked_for(__doc__)
    with Ground() as ground:
        key = cast.key_of("bench")
        cast.executor()
        small.make_table()
        row = Wanted("POST", "/row", cast.headers(key), cast.text_task(latency=0))
        measure = partial(load, connections=CONNECTIONS, status=201)
        with small_beside(ground) as base:
            measured = by_turns(
                options,
                lambda run, took: measure(ground.base, partial(submit, key, run), seconds=took),
                lambda took: measure(base, lambda _: row, seconds=took),
            )
        conclude(*measured)


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
