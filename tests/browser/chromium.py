"""A Chromium to drive: one that is installed, else one that can be installed now."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TRIED = Path(tempfile.gettempdir()) / f"genpulse-chromium-{os.getuid()}"
WAYS = (
    ["apt-get", "update", "-qq"],
    ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium", "fonts-dejavu-core"],
    [sys.executable, "-m", "playwright", "install", "chromium"],
)


class NoBrowser(Exception):
    """None is installed, and none could be."""


@contextmanager
def browser() -> Iterator[Browser]:
    """Raises NoBrowser."""
    with sync_playwright() as playwright:
        path = _found(playwright) or _installed(playwright)
        options = [] if os.getuid() else ["--no-sandbox"]  # Chromium's sandbox refuses root
        opened = playwright.chromium.launch(executable_path=path, args=options)
        try:
            yield opened
        finally:
            opened.close()


def _found(playwright: Playwright) -> str | None:
    own = playwright.chromium.executable_path
    return next(filter(None, map(shutil.which, NAMES)), own if Path(own).exists() else None)


def _installed(playwright: Playwright) -> str:
    """Tried once an hour, also when many processes need one."""
    with TRIED.open("a+") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        mark.seek(0)
        if not mark.read() or time.time() - os.fstat(mark.fileno()).st_mtime > 3600:
            mark.write("tried\n")
            _install(playwright)
    path = _found(playwright)
    if path is None:
        raise NoBrowser(f"no Chromium, and none could be installed ({TRIED} remembers that)")
    return path


def _install(playwright: Playwright) -> None:
    for command in WAYS:
        if _found(playwright) is None and shutil.which(command[0]):
            subprocess.run(
                command,
                env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=240,
                check=False,
            )
