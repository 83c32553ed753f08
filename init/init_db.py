#!/usr/bin/env python
"""`genpulse init-db` under another name: brings the schema up to date and keeps the data.

`--reset` drops everything first, after a question; production refuses it.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))
import _venv  # noqa: F401 - first

from genpulse.cli.app import run

if __name__ == "__main__":
    run("init-db", *sys.argv[1:])
    sys.stdout.write("✅ 数据库表结构同步完成！\n")  # noqa: RUF001 - the promised words
