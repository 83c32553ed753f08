#!/usr/bin/env python
"""Brings the database schema up to date and names every table and view. Repeatable."""

import sys

import _venv  # noqa: F401 - first

from genpulse.cli.app import run

if __name__ == "__main__":
    run("init-db", *sys.argv[1:])
    from genpulse import schema

    sys.stdout.write("".join(f"{name}\n" for name in schema.names()))
