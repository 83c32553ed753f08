"""Loads by turns: on the web process of GenPulse, and on `benchmarks.small` on the same kind of server beside it."""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from benchmarks.client import Load
from benchmarks.ground import Ground, await_answer, started
from genpulse.embedded import free_port


def asked_for(about: str | None) -> argparse.Namespace:
    """`seconds` of each run and `runs`, from the command line."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--runs", type=int, default=3)
    return parser.parse_args()


@contextmanager
def small_beside(ground: Ground) -> Iterator[str]:
    """The base URL of `benchmarks.small`, while both servers run."""
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "benchmarks.small", str(port)]
    with ground.processes("web"), started([command]):
        await_answer(f"{base}/empty")
        yield base


def by_turns(
    options: argparse.Namespace,
    ours: Callable[[int, float], Load],
    theirs: Callable[[float], Load],
) -> tuple[list[Load], list[Load]]:
    """Both, run by run. `ours(run, seconds)`, `theirs(seconds)`; the first of each warms up and does not count."""
    warm = min(options.seconds, 2)
    ours(-1, warm)
    theirs(warm)
    done = [(ours(run, options.seconds), theirs(options.seconds)) for run in range(options.runs)]
    return [one for one, _ in done], [other for _, other in done]
