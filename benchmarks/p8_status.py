"""P8: `GET` of a task's status per second, by clients that ask again and again for tasks that wait.

The baseline is the empty Django view on the same server. Runs alternate; only the web processes run.
"""

import json
from functools import partial

import requests

from benchmarks import cast
from benchmarks.client import Wanted, load
from benchmarks.ground import Ground
from benchmarks.report import report
from benchmarks.turns import asked_for, by_turns, small_beside

CONNECTIONS = 32
TASKS = 32


def submitted(base: str, key: str) -> list[str]:
    """Paths of tasks that nobody will run."""
    made = [
        requests.post(
            f"{base}/api/v1/tasks",
            json.dumps(cast.text_task(latency=0)),
            headers=cast.headers(key),
            timeout=30,
        ).json()
        for _ in range(TASKS)
    ]
    return [task["urls"]["self"] for task in made]


def main() -> None:
    options = asked_for(__doc__)
    with Ground() as ground:
        key = cast.key_of("bench")
        cast.executor()
        empty = Wanted("GET", "/empty", {})
        measure = partial(load, connections=CONNECTIONS, status=200)
        with small_beside(ground) as base:
            wanted = [
                Wanted("GET", path, cast.headers(key)) for path in submitted(ground.base, key)
            ]
            ours, theirs = by_turns(
                options,
                lambda _, took: measure(ground.base, lambda n: wanted[n % TASKS], seconds=took),
                lambda took: measure(base, lambda _: empty, seconds=took),
            )
        report(
            "P8 status reads",
            "per second",
            [one.per_second for one in ours],
            [one.per_second for one in theirs],
        )


if __name__ == "__main__":
    main()
