"""What the scripts share: which instance they talk to, and as whom."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from genpulse.cli.app import read_dotenv
from genpulse.cli.client import Client
from genpulse.cli.instance import Instance


def parser(description: str) -> argparse.ArgumentParser:
    """With the options every script takes."""
    read_dotenv()
    made = argparse.ArgumentParser(description=description)
    folder = os.environ.get("GENPULSE_DATA", ".genpulse")
    made.add_argument("--data", type=Path, default=Path(folder), help="folder of the instance")
    made.add_argument("--base-url", default="", help="instead of the instance's own")
    made.add_argument("--key", default="", help="API key; default: the instance's admin key")
    return made


def client(options: argparse.Namespace) -> Client:
    """Exits with 1 when there is nobody to talk to."""
    instance = Instance(options.data)
    base_url = options.base_url or instance.base_url
    if not base_url:
        sys.exit(
            f"no instance in {instance.home}; start one with `genpulse up`, or give --base-url"
        )
    return Client(base_url, options.key or instance.admin_key)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed; 0 of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
