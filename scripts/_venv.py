"""Importing this lets a script go on in the project's own Python, whichever one it was started by."""

import os
import sys
from pathlib import Path

OWN = Path(__file__).resolve().parent.parent / ".venv"

if OWN.exists() and Path(sys.prefix).resolve() != OWN.resolve():
    python = str(OWN / "bin" / "python")
    os.execv(python, [python, *sys.argv])  # noqa: S606 - a program and its arguments, no shell
