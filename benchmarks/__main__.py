"""All benchmarks, or those named: `python -m benchmarks [NAME...] [--small]`.

Each program runs alone, on servers of its own. The table of all results also goes to benchmarks/results.md.
"""

import argparse
import json
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.report import table

PROGRAMS = {  # name -> module, arguments of a run that only shows that it works
    "p1": ("p1_life", "--tasks 200 --runs 1"),
    "p2": ("p2_submit", "--seconds 1 --runs 1"),
    "p3": ("p3_idle", "--tasks 10"),
    "p4": ("p4_in_flight", "--jobs 200 --seconds 4,8"),
    "p5": ("p5_backlog", "--backlog 20000 --runs 1"),
    "p6": ("p6_sockets", "--clients 100 --seconds 4 --runs 1"),
    "p7": ("p7_chat", "--streams 3 --pieces 50"),
    "p8": ("p8_status", "--seconds 1 --runs 1"),
    "p9": ("p9_wallet", "--seconds 1 --runs 1"),
    "p10": ("p10_rest", "--runs 1"),
    "waiting": ("p11_waiting", "--clients 100 --seconds 5"),
}
RESULTS = Path(__file__).parent / "results.md"


def results(name: str, *, small: bool) -> list[dict[str, Any]]:
    """The lines of one program. Raises CalledProcessError."""
    module, arguments = PROGRAMS[name]
    command = [sys.executable, "-m", f"benchmarks.{module}", *(arguments.split() if small else ())]
    began = time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(done.stdout, end="", flush=True)
    print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PROGRAMS))
    parser.add_argument("--small", action="store_true", help="sizes that prove nothing")
    options = parser.parse_args()
    names = options.names or list(PROGRAMS)
    if unknown := set(names) - PROGRAMS.keys():
        parser.error(f"no such program: {', '.join(sorted(unknown))}")
    lines = [line for name in names for line in results(name, small=options.small)]
    versions = ", ".join(f"{name} {number}" for name, number in lines[0]["versions"].items())
    when = datetime.now(UTC).strftime("%Y-%m-%d")
    text = f"{when}, {lines[0]['machine']}, {versions}\n\n{table(lines)}\n"
    print(f"\n{text}")
    RESULTS.write_text(text)


if __name__ == "__main__":
    main()
