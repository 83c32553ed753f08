"""P4: many jobs at an asynchronous vendor, held by one worker process and one orchestrator.

The vendor's jobs take 30 to 120 s, are looked up in batches, and too many look-ups a second are refused with 429.
Measured is how long after a job's end it is known here, in poll intervals of its age (a tenth of it, 2 to 30 s), and
what the two processes weigh meanwhile. A blocking design would hold a thread for each job.
"""

import argparse
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import requests

from benchmarks import cast, tenants
from benchmarks.ground import Ground, Process, await_answer, rss, started
from benchmarks.report import report
from genpulse.embedded import free_port

PLUGIN = str(Path(__file__).parent / "plugin")
IN_FLIGHT = "SELECT count(*) FROM tasks_attempt WHERE stage = 'accepted'"
ENDS = """
SELECT a.external_id, extract(epoch FROM t.finished_at)::float8, extract(epoch FROM a.accepted_at)::float8
FROM tasks_task t JOIN tasks_attempt a ON a.task_id = t.id AND a.number = t.attempt WHERE t.status = 'succeeded'
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--seconds", default="30,120", help="shortest,longest")
    options = parser.parse_args()
    sys.path.insert(0, PLUGIN)
    os.environ["PYTHONPATH"] = os.pathsep.join([PLUGIN, os.environ.get("PYTHONPATH", "")])
    port = free_port()
    vendor = f"http://127.0.0.1:{port}"
    upstream = [sys.executable, "-m", "uvicorn", "benchmarks.upstream:application"]
    upstream += ["--port", str(port), "--log-level", "error"]
    with Ground() as ground, started([upstream], JOB_SECONDS=options.seconds):
        await_answer(f"{vendor}/models")
        cast.executor("batch", 2 * options.jobs, base_url=vendor)
        with ground.processes("orchestrator", "worker") as running:
            who = tenants.actors(20)
            tenants.submit(who, options.jobs, {"model": "batch-1", "input": {"prompt": "hi"}})
            flying, weight = watched(options.jobs, running)
        conclude(options.jobs, flying, weight, requests.get(f"{vendor}/seen", timeout=30).json())


def watched(jobs: int, running: list[Process]) -> tuple[int, float]:
    """The most jobs in flight and the most memory of the processes, until all have ended."""
    from genpulse import sql
    from tasks.models import Task

    flying, weight = 0, 0.0
    while Task.objects.filter(finished_at=None).exists():
        flying = max(flying, int(sql.fetch(IN_FLIGHT)[0][0]))
        weight = max(weight, sum(rss(process) for process in running))
        time.sleep(0.5)
    assert Task.objects.filter(status="succeeded").count() == jobs
    return flying, weight


def conclude(jobs: int, flying: int, weight: float, seen: dict[str, Any]) -> None:
    from genpulse import sql

    delays, intervals, minutes = [], [], 0.0
    for job, finished, accepted in sql.fetch(ENDS):
        end = seen["jobs"][job]
        delays.append(finished - end)
        intervals.append(min(max((end - accepted) / 10, 2.0), 30.0))
        minutes += (end - accepted) / 60
    report(
        "P4 delay after the end of a job (median) against the poll interval",
        "s",
        [statistics.median(delays)],
        [statistics.median(intervals)],
        jobs=jobs,
        longest_delay=round(max(delays), 1),
        polls_per_job_and_minute=round(seen["asked"] / minutes, 2),
        lookups=seen["lookups"],
        refused_with_429=seen["refused"],
    )
    report("P4 jobs in flight against worker threads", "jobs", [flying], [64])
    report("P4 memory of worker and orchestrator", "MB", [weight])


if __name__ == "__main__":
    main()
