"""One line for each family: pending, active, scheduled, retry, failed. Exit 1 when unreachable."""

import sys
from typing import Any

from _common import client, parser

from genpulse.cli.client import ApiError

COLUMNS = ("pending", "active", "scheduled", "retry", "failed")
ACTIVE = ("admitted", "running", "awaiting", "verifying")


def counts(queue: dict[str, Any]) -> tuple[int, ...]:
    active = sum(queue[name] for name in ACTIVE)
    waiting = queue["waiting"]["total"] + queue["blocked"]
    return waiting, active, queue["scheduled"], queue["retrying"], queue["failed_last_hour"]


def main() -> None:
    api = client(parser(__doc__ or "").parse_args())
    try:
        queues = api.get("/api/v1/queues")["items"]
    except (ApiError, OSError) as error:
        sys.exit(f"cannot read the queues of {api.base_url}: {error}")
    sys.stdout.write(f"{'queue':<14}" + "".join(f"{name:>11}" for name in COLUMNS) + "\n")
    for queue in queues:
        numbers = "".join(f"{count:>11}" for count in counts(queue))
        sys.stdout.write(f"{queue['family']:<14}{numbers}\n")


if __name__ == "__main__":
    main()
