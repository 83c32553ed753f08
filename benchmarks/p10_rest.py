"""P10: memory of the processes at rest, and seconds from `genpulse up` to ready, on a warm installation."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.report import report

SETTLED = 10.0  # seconds
NAMES = ("web", "worker", "orchestrator")


def command(verb: str, data: Path, *more: str) -> list[str]:
    return [str(Path(sys.executable).with_name("genpulse")), verb, "--data", str(data), *more]


def run(verb: str, data: Path, *more: str) -> str:
    return subprocess.run(
        command(verb, data, *more), check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def measured(data: Path) -> tuple[float, dict[str, float]]:
    """Seconds to ready, and MB of each process."""
    began = time.perf_counter()
    told = json.loads(run("up", data, "--no-demo", "--json", "--port", "0"))
    seconds = time.perf_counter() - began
    try:
        time.sleep(SETTLED)
        family = psutil.Process(told["pid"]).children(recursive=True)
        return seconds, {name: weight(family, name) for name in NAMES}
    finally:
        run("down", data)


def weight(family: list[psutil.Process], name: str) -> float:
    """Of the process that runs under this name; launchers have become it by then."""
    return max(
        one.memory_info().rss / 1e6
        for one in family
        if one.cmdline()[-2:] == ["genpulse.cli.processes", name]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    os.environ.pop("DATABASE_URL", None)
    with tempfile.TemporaryDirectory(prefix="genpulse-bench-") as home:
        data = Path(home) / "data"
        runs = [measured(data) for _ in range(options.runs + 1)][
            1:
        ]  # the first one makes the databases
    report("P10 up to ready", "s", [seconds for seconds, _ in runs])
    for name in NAMES:
        report(f"P10 memory of {name}", "MB", [weights[name] for _, weights in runs])


if __name__ == "__main__":
    main()
