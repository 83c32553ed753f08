"""P9: freeze + confirm per second on one hot wallet and on 1 000 wallets, by 16 clients.

Ours is `wallet.services` in 16 processes; the baseline is pgbench, also with 16 clients, calling the
same two SQL functions with prepared statements. Runs alternate; both commit durably.
"""

import argparse
import multiprocessing
import random
import re
import statistics
import subprocess
import time
from collections.abc import Sequence
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from uuid import UUID

from benchmarks.ground import Ground
from benchmarks.report import report

FORK = multiprocessing.get_context("fork")
CLIENTS = 16
WALLETS = 1000
RICH = 10**15

CYCLE = """\\
\\set n random(1, {wallets})
SELECT hold_id FROM wallet_freeze(ARRAY[gen_random_uuid()],
  ARRAY[(SELECT account_id FROM bench_wallet WHERE number = :n)],
  ARRAY[-1], ARRAY[1], ARRAY[gen_random_uuid()], '{{null}}', '{{null}}', ARRAY[''], '{{null}}') \\gset
SELECT count(*) FROM wallet_settle(ARRAY[gen_random_uuid()], ARRAY[:hold_id::uuid], ARRAY[1], '');
"""


def fill() -> list[UUID]:
    """1 000 rich accounts, numbered for pgbench; their ids."""
    from django.db import connection

    from genpulse.auth.models import Account
    from wallet import services

    made = Account.objects.bulk_create([Account(name=f"bench-{n}") for n in range(WALLETS)])
    for account in made:
        services.deposit(account.id, RICH, reason="bench")
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE bench_wallet AS SELECT row_number() OVER (ORDER BY account_id) AS number,"
            " account_id FROM wallet_wallet; CREATE UNIQUE INDEX ON bench_wallet (number); ANALYZE"
        )
    connection.close()  # before the forks
    return sorted(account.id for account in made)


def client(
    accounts: Sequence[UUID], seconds: float, start: Barrier, out: "SimpleQueue[list[float]]"
) -> None:
    """What one process manages: the seconds that each cycle of two transactions took."""
    from genpulse.ids import new_id
    from wallet.services import Freeze, Settlement, freeze_many, settle

    def cycle() -> float:
        began, hold_id = time.perf_counter(), new_id()
        freeze_many([Freeze(hold_id=hold_id, account_id=random.choice(accounts), amount=1)])
        settle([Settlement(hold_id, 1)])
        return time.perf_counter() - began

    for _ in range(8):  # connect, and let the server make its plans
        cycle()
    start.wait()
    end, took = time.perf_counter() + seconds, []
    while time.perf_counter() < end:
        took.append(cycle())
    out.put(took)


def by_services(accounts: Sequence[UUID], seconds: float) -> list[float]:
    """The seconds of every cycle of all clients, in ascending order."""
    start, out = FORK.Barrier(CLIENTS), FORK.SimpleQueue()
    clients = [
        FORK.Process(target=client, args=(accounts, seconds, start, out)) for _ in range(CLIENTS)
    ]
    for process in clients:
        process.start()
    took = sorted(one for _ in clients for one in out.get())
    for process in clients:
        process.join()
    return took


def by_pgbench(wallets: int, seconds: float, home: Path) -> float:
    """Cycles per second: a transaction of pgbench is one run of the script."""
    from genpulse.embedded import Postgres

    postgres = Postgres(home / "pg")
    script = home / "cycle.sql"
    script.write_text(CYCLE.format(wallets=wallets))
    done = subprocess.run(
        [
            *(str(postgres.programs / "pgbench"), "-n", "-M", "prepared", "-f", str(script)),
            *("-c", str(CLIENTS), "-j", "2", "-T", str(round(seconds))),
            *("-h", str(postgres.sockets), "-U", "genpulse", "genpulse"),
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"tps = ([\d.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


def compare(name: str, accounts: Sequence[UUID], options: argparse.Namespace, home: Path) -> None:
    ours, baseline, tails = [], [], []
    for _ in range(options.runs):
        took = by_services(accounts, options.seconds)
        ours.append(len(took) / options.seconds)
        tails.append(took[len(took) * 99 // 100] * 1000)
        baseline.append(by_pgbench(len(accounts), options.seconds, home))
    report(name, "cycles/s", ours, baseline, p99_ms=round(statistics.median(tails), 1))


def settle_groups(accounts: Sequence[UUID], rounds: int = 50) -> None:
    """A recorder's group: 64 holds of 20 accounts in one transaction, against 64 on their own."""
    from genpulse.ids import new_id
    from wallet.services import Freeze, Settlement, freeze_many, settle

    together: list[float] = []
    alone: list[float] = []
    for _ in range(rounds):
        for took, size in ((together, 64), (alone, 1)):
            owners = [accounts[n % 20] for n in range(64)]
            freezes = [Freeze(hold_id=new_id(), account_id=owner, amount=2) for owner in owners]
            freeze_many(freezes)
            ends = [Settlement(freeze.hold_id, 1) for freeze in freezes]
            began = time.perf_counter()
            for at in range(0, 64, size):
                settle(ends[at : at + size])
            took.append(64 / (time.perf_counter() - began))
    report("P9 settled in groups of 64", "holds/s", together, alone)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    with Ground() as ground:
        accounts = fill()
        compare("P9 one hot wallet", accounts[:1], options, ground.home)
        compare("P9 1000 wallets", accounts, options, ground.home)
        settle_groups(accounts)


if __name__ == "__main__":
    main()
