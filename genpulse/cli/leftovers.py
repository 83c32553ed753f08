"""Processes that outlived the supervisor of their instance: none on Linux, elsewhere there may be."""

import os
from collections.abc import Iterator
from pathlib import Path

import psutil

MARK = "GENPULSE_INSTANCE"  # in the environment of every process of an instance
SERVERS = ("postgres", "valkey-server")


def end_leftovers(home: Path) -> int:
    """Kill what belongs to `home` while no supervisor runs it. Returns how many there were."""
    found = list(_of(home))
    for process in found:
        process.kill()
    psutil.wait_procs(found, timeout=10)
    return len(found)


def _of(home: Path) -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["name", "cmdline"]):
        command = process.info["cmdline"] or []
        ours = _mark_of(process) == str(home) if "genpulse" in " ".join(command) else False
        if process.info["name"] in SERVERS:  # they overwrite their environment
            ours = any(str(home) in word for word in command)
        if ours and process.pid != os.getpid():
            yield process


def _mark_of(process: psutil.Process) -> str:
    try:
        return str(process.environ().get(MARK, ""))
    except psutil.Error:
        return ""
