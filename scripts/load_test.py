"""Sends tasks to the sandbox and waits for each. Exit 1 when fewer than 99 % succeed."""

import argparse
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from _common import client, parser, percentile

from genpulse.cli.client import ApiError, Client

ENOUGH = 0.99
WAIT = 60  # seconds


def arguments() -> argparse.Namespace:
    options = parser(__doc__ or "")
    options.add_argument("-n", type=int, default=200, help="requests")
    options.add_argument("-c", type=int, default=20, help="at the same time")
    return options.parse_args()


def one(api: Client, number: int) -> tuple[bool, float]:
    """Whether it succeeded, and its seconds."""
    began = time.monotonic()
    body = {"model": "sandbox-text", "input": {"prompt": f"load test {number}"}}
    try:
        task = api.post("/api/v1/tasks", body, timeout=WAIT)
        while not task["terminal"]:
            task = api.get(f"/api/v1/tasks/{task['id']}?wait={WAIT}", timeout=WAIT + 10)
    except (ApiError, OSError):
        return False, time.monotonic() - began
    return task["status"] == "succeeded", time.monotonic() - began


def main() -> None:
    options = arguments()
    api = client(options)
    began = time.monotonic()
    with ThreadPoolExecutor(options.c) as pool:
        results = list(pool.map(lambda number: one(api, number), range(options.n)))
    seconds = time.monotonic() - began
    succeeded = sum(good for good, _ in results)
    times = [took * 1000 for _, took in results]
    sys.stdout.write(
        f"requests      {options.n}\n"
        f"success rate  {succeeded / max(1, options.n):.1%}\n"
        f"throughput    {options.n / seconds:.1f}/s\n"
        f"p50 / p95 / p99   {percentile(times, 0.5):.0f} / {percentile(times, 0.95):.0f}"
        f" / {percentile(times, 0.99):.0f} ms\n"
    )
    sys.exit(succeeded < ENOUGH * options.n)


if __name__ == "__main__":
    main()
