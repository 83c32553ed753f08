"""All experiments, on servers and processes of their own: `make chaos`.

python -m tests.chaos [NAME...] [--scale 0.1] [--seed 7]
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genpulse.embedded import Postgres, Valkey, free_port

if TYPE_CHECKING:
    from tests.chaos.rig import Rig, Server

BY_NAME = {"E31"}  # only when asked for
PLUGIN = Path(__file__).parent / "plugin"
# The longest do less when all run, so that all take about 25 minutes on two cores; by name they run at full size.
HALF = ("E02", "E03", "E04", "E05", "E08", "E16", "E27")
SHARES = {"E01": 0.25} | dict.fromkeys(HALF, 0.5)
HEAVY = {
    "LOG_LEVEL": "DEBUG",
    "MAX_WAITING_PER_USER": "0",
    "RATE_LIMIT_WRITE": "0",
    "RATE_LIMIT_READ": "0",
}


def experiments() -> dict[str, tuple[Callable[["Rig"], None], dict[str, str]]]:
    """Name -> what to run, and what its processes need in their environment."""
    from tests.chaos import (
        broker,
        commits,
        corpora,
        leaders,
        listeners,
        model,
        money,
        outcomes,
        storms,
        workers,
    )

    return {
        "E01": (workers.killed_processes, {}),
        "CHILDREN": (workers.every_child, {}),
        "E02": (broker.flushed, {}),
        "E03": (broker.broker_down, {}),
        "E04": (commits.died_after, {}),
        "E05": (commits.died_before, {}),
        "E06": (broker.doubled, {}),
        "E07": (broker.hung_up, {}),
        "E08": (workers.frozen_worker, {}),
        "E10": (broker.visible_again, {"VISIBILITY_TIMEOUT": "3", "WORKER_CONCURRENCY": "32"}),
        "E11": (workers.poison, {}),
        "E13": (outcomes.with_keys, {}),
        "E14": (outcomes.with_look_up, {}),
        "E15": (outcomes.with_neither, {"FIND_DELAYS": "1,10"}),
        "E16": (storms.stormy_vendor, {}),
        "CIRCUIT": (storms.one_of_two_dies, {}),
        "E17": (storms.nonsense, {}),
        "E19": (corpora.one_key_at_once, {}),
        "E22": (money.canceled_at_random, {}),
        "E23": (money.database_down, {}),
        "E26": (leaders.leaders_die, {}),
        "SLOTS": (leaders.places_kept, {}),
        "E27": (workers.rolling_deploy, {"SHUTDOWN_GRACE": "4"}),
        "E30": (listeners.cut_again_and_again, {}),
        "E31": (listeners.storm, {}),
        "E37": (model.every_order, {}),
        "E41": (corpora.passed("E41 forbidden addresses", corpora.FORBIDDEN, 80), {}),
        "E42": (corpora.passed("E42 bound credentials", corpora.BOUND, 20), {}),
        "E46": (corpora.passed("E46 paths", corpora.PATHS, 40), {}),
    }


@contextmanager
def ground() -> Iterator[tuple["Server", "Server", Path]]:
    """PostgreSQL and Valkey as they are shipped, an empty database, Django set up."""
    home = Path(tempfile.mkdtemp(prefix="genpulse-chaos-"))
    postgres, valkey = Postgres(home / "pg"), Valkey(home / "vk", port=free_port(), throwaway=True)
    started = [postgres.start(), valkey.start()]
    prepare(postgres, valkey, home)
    from tests.chaos.rig import Server

    servers = [Server(postgres, started[0]), Server(valkey, started[1])]
    try:
        yield servers[0], servers[1], home
    finally:
        for server in servers:
            server.running.stop()
        shutil.rmtree(home, ignore_errors=True)


def prepare(postgres: Postgres, valkey: Valkey, home: Path) -> None:
    os.environ.update(
        HEAVY,
        DATABASE_URL=postgres.url(),
        REDIS_URL=valkey.url(0),
        REDIS_LIVE_URL=valkey.url(1),
        GENPULSE_DATA=str(home / "data"),
        SECRET_KEY="a-secret-for-experiments-0123456789abcdef",
        ENCRYPTION_KEYS="c1:" + b64encode(bytes(32)).decode(),
        OUTBOUND_ALLOWED_HOSTS="127.0.0.1:*,localhost:*",
        PYTHONPATH=str(PLUGIN),
        DJANGO_SETTINGS_MODULE="genpulse.settings",
    )
    sys.path.insert(0, str(PLUGIN))
    import django

    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)


def run(name: str, rig: "Rig", experiment: Callable[["Rig"], None]) -> bool:
    began = time.monotonic()
    print(f"== {name}", flush=True)  # noqa: T201
    try:
        experiment(rig)
    except BaseException as error:
        traceback.print_exc()
        if not isinstance(error, Exception):
            raise
        print(f"== {name}: FAILED, seed {rig.seed}, {dict(rig.counts)}", flush=True)  # noqa: T201
        return False
    finally:
        rig.stack.stop()
    print(f"== {name}: {time.monotonic() - began:.0f} s", flush=True)  # noqa: T201
    return True


def main(names: list[str], scale: float, seed: int | None) -> int:
    with ground() as (postgres, valkey, home):
        from tests.chaos.rig import Rig
        from tests.integration.stack import Stack

        failed = []
        for name, (experiment, environment) in experiments().items():
            if name not in (names or experiments().keys() - BY_NAME):
                continue
            more: dict[str, Any] = {} if seed is None else {"seed": seed}
            stack = Stack(**environment)
            log = home / "data" / "logs" / "app.log"
            share = 1.0 if names else SHARES.get(name, 1.0)
            rig = Rig(stack, valkey, postgres, scale=scale * share, log=log, **more)
            if not run(name, rig, experiment):
                failed.append(name)
    print(f"== failed: {failed or 'none'}")  # noqa: T201
    return int(bool(failed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int)
    given = parser.parse_args()
    sys.exit(main(given.names, given.scale, given.seed))
