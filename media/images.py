"""Thumbnails, made in a confined process of their own; no other process ever loads a decoder."""

import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import structlog

LONGEST_SIDE = 512
SECONDS = 15.0
LARGEST = 1 << 20  # of the WebP
DECODER = Path(__file__).with_name("decoder.py")
log = structlog.get_logger(__name__)


def thumbnail(file: BinaryIO, content_type: str) -> bytes | None:
    """A WebP of at most 512 pixels, or None for a picture that cannot be decoded within the limits."""
    command = [sys.executable, "-I", str(DECODER), content_type, str(LONGEST_SIDE)]
    try:
        done = subprocess.run(  # noqa: S603 - no shell, no word of a user
            command, stdin=file, capture_output=True, timeout=SECONDS, env={}, check=False
        )
    except subprocess.TimeoutExpired:
        log.info("media.undecodable", reason="time")
        return None
    if done.returncode != 0 or not 0 < len(done.stdout) <= LARGEST:
        log.info("media.undecodable", reason=f"exit {done.returncode}")
        return None
    return done.stdout
