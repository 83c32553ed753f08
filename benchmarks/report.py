"""How a benchmark says what it found: one JSON line for programs, one table for people."""

import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

FACTS = ("name", "value", "unit", "baseline", "ratio", "spread", "baseline_spread", "runs")
HEAD = ("What", "Value", "Unit", "Baseline", "Ratio", "Spread", "Remarks")


def report(
    name: str, unit: str, ours: Sequence[float], baseline: Sequence[float] = (), **extra: object
) -> None:
    """Medians of the runs, their ratio, and the spread of each: (max - min) over the median."""
    line = {
        "name": name,
        "value": _rounded(statistics.median(ours)),
        "unit": unit,
        "baseline": _rounded(statistics.median(baseline)) if baseline else None,
        "ratio": _ratio(ours, baseline),
        "spread": _spread(ours),
        "baseline_spread": _spread(baseline),
        "runs": len(ours),
        **extra,
        "machine": f"{platform.machine()} x{os.cpu_count()}",
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("celery", "django", "psycopg", "uvicorn")},
        },
    }
    print(json.dumps(line), flush=True)
    print(table([line]), file=sys.stderr, flush=True)


def table(lines: Iterable[Mapping[str, Any]]) -> str:
    """In Markdown, a row for each line of `report`."""
    rows = [HEAD, ["---"] * len(HEAD), *(_row(line) for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def percentile(values: Iterable[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


def _row(line: Mapping[str, Any]) -> list[str]:
    known = {*FACTS, "machine", "versions"}
    more = ", ".join(f"{name} {value}" for name, value in line.items() if name not in known)
    spread = "" if line["spread"] is None else f"{line['spread']:.0%}"
    if line["baseline_spread"] is not None:
        spread += f" / {line['baseline_spread']:.0%}"
    facts = [line["name"], line["value"], line["unit"], line["baseline"], line["ratio"]]
    return [*("" if fact is None else str(fact) for fact in facts), spread, more]


def _ratio(ours: Sequence[float], baseline: Sequence[float]) -> float | None:
    if not baseline:
        return None
    return round(statistics.median(ours) / statistics.median(baseline), 3)


def _spread(runs: Sequence[float]) -> float | None:
    return round((max(runs) - min(runs)) / statistics.median(runs), 3) if len(runs) > 1 else None


def _rounded(value: float) -> float:
    return round(value, 2 if value < 100 else None)
