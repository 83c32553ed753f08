"""Deletes the messages of the broker. Waiting tasks stay in the database and are published again."""

import os
import sys

from _common import parser

from genpulse.cli.instance import Instance


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("-f", "--force", action="store_true", help="do not ask")
    given = options.parse_args()
    Instance(given.data).enter()
    if not os.environ.get("REDIS_URL"):
        sys.exit("no instance there, and REDIS_URL is not set")
    if not given.force and not agreed():
        sys.exit("nothing deleted")
    sys.stdout.write(f"{clear()} messages deleted\n")


def agreed() -> bool:
    if not sys.stdin.isatty():
        sys.exit("without a terminal, say --force")
    return input("Delete every message of the broker? [y/N] ").strip().lower() == "y"


def clear() -> int:
    """How many there were."""
    from genpulse.celery import app
    from providers.families import all_families

    names = [family.name for family in all_families()]
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        return sum(
            channel.queue_purge(name)
            for name in [*names, "quarantine", "media", "webhooks", "control"]
        )


if __name__ == "__main__":
    main()
