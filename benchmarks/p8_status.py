"""P8: `GET` of a task's status per second, by clients that ask again and again for tasks that wait.

The baseline is the empty Django view on the same server. Runs alternate; only the web processes run.
"""

import argparse
import json
import sys
from functools import partial

import requests

from benchmarks import cast
from benchmarks.client import Wanted, load
from benchmarks.ground import Ground, await_answer, started
from benchmarks.report import report
from genpulse.embedded import free_port

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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with Ground() as ground:
        key = cast.key_of("bench")
        cast.executor()
        port = free_port()
        base = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "benchmarks.small", str(port)]
        empty = Wanted("GET", "/empty", {})
        measure = partial(load, connections=CONNECTIONS, status=200)
        with ground.processes("web"), started([command]):
            await_answer(f"{base}/empty")
            wanted = [
                Wanted("GET", path, cast.headers(key)) for path in submitted(ground.base, key)
            ]
            ours, theirs = [], []
            for run in range(-1, options.runs):  # the first one warms up and does not count
                seconds = options.seconds if run >= 0 else min(options.seconds, 2)
                ours.append(measure(ground.base, lambda n: wanted[n % TASKS], seconds=seconds))
                theirs.append(measure(base, lambda _: empty, seconds=seconds))
        report(
            "P8 status reads",
            "per second",
            [one.per_second for one in ours[1:]],
            [one.per_second for one in theirs[1:]],
        )


if __name__ == "__main__":
    main()
