"""Does the ledger add up? Every invariant is a query for the rows that break it.

Run in one REPEATABLE READ transaction, so that money on the move is never taken for money lost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

SAMPLE = 5


@dataclass(frozen=True, slots=True)
class Check:
    """One invariant: how many rows break it, and five of them."""

    name: str
    description: str
    violations: int
    sample: Sequence[str]


INVARIANTS: dict[str, tuple[str, str]] = {
    "I1": (
        "every journal has legs that move something, and they sum to zero",
        """
        SELECT journal.id FROM wallet_journal AS journal LEFT JOIN wallet_entry AS entry ON entry.journal_id = journal.id
        GROUP BY journal.id
        HAVING count(entry.id) = 0 OR sum(entry.available_change + entry.held_change) <> 0
          OR bool_or(entry.available_change = 0 AND entry.held_change = 0)
        """,
    ),
    "I2": (
        "all legs together sum to zero",
        """
        SELECT 'ledger' FROM wallet_entry HAVING coalesce(sum(available_change + held_change), 0) <> 0
        """,
    ),
    "I3": (
        "a wallet is the sum of its entries",
        """
        SELECT coalesce(wallet.account_id, booked.account_id)
        FROM wallet_wallet AS wallet FULL JOIN (
          SELECT account_id, sum(available_change) AS available, sum(held_change) AS held, count(*) AS entries,
            sum(available_change) FILTER (WHERE kind = 'deposit') AS deposited,
            -sum(available_change + held_change) FILTER (WHERE kind = 'charge') AS charged
          FROM wallet_entry JOIN wallet_journal AS journal ON journal.id = journal_id
          WHERE account_id IS NOT NULL GROUP BY account_id
        ) AS booked USING (account_id)
        WHERE (wallet.available, wallet.held, wallet.last_seq, wallet.deposited, wallet.charged) IS DISTINCT FROM
          (coalesce(booked.available, 0), coalesce(booked.held, 0), coalesce(booked.entries, 0),
           coalesce(booked.deposited, 0), coalesce(booked.charged, 0))
        """,
    ),
    "I4": (
        "what a wallet holds is the sum of its open holds",
        """
        SELECT account_id FROM wallet_wallet FULL JOIN (
          SELECT account_id, sum(amount) AS amount FROM wallet_hold WHERE status = 'open' GROUP BY account_id
        ) AS open USING (account_id)
        WHERE coalesce(held, 0) <> coalesce(amount, 0)
        """,
    ),
    "I5": (
        "no wallet is below zero",
        "SELECT account_id FROM wallet_wallet WHERE available < 0 OR held < 0",
    ),
    "I6": (
        "a hold was frozen once, and resolved once if it is resolved, for no more than its amount",
        """
        SELECT hold.id
        FROM wallet_hold AS hold LEFT JOIN (
          SELECT journal.hold_id, journal.kind, entry.account_id, entry.available_change, entry.held_change
          FROM wallet_journal AS journal JOIN wallet_entry AS entry ON entry.journal_id = journal.id
          WHERE journal.hold_id IS NOT NULL AND entry.account_id IS NOT NULL
        ) AS leg ON leg.hold_id = hold.id
        GROUP BY hold.id
        HAVING hold.charged NOT BETWEEN 0 AND hold.amount
          OR count(*) FILTER (WHERE leg.kind = 'hold' AND leg.account_id = hold.account_id
            AND leg.available_change = -hold.amount AND leg.held_change = hold.amount) <> 1
          OR count(*) FILTER (WHERE leg.kind <> 'hold') <> (hold.status <> 'open')::int
          OR count(*) FILTER (WHERE leg.kind <> 'hold' AND leg.account_id = hold.account_id
            AND leg.kind = CASE hold.status WHEN 'confirmed' THEN 'charge' ELSE 'release' END
            AND leg.available_change = hold.amount - hold.charged AND leg.held_change = -hold.amount)
            <> (hold.status <> 'open')::int
        UNION ALL
        SELECT journal.id FROM wallet_journal AS journal LEFT JOIN wallet_hold AS hold ON hold.id = journal.hold_id
        WHERE (journal.kind IN ('hold', 'charge', 'release')) <> (hold.id IS NOT NULL)
        """,
    ),
    "I7": (
        "a task has one hold at most",
        """
        SELECT task_id FROM wallet_hold WHERE task_id IS NOT NULL GROUP BY task_id HAVING count(*) > 1
        """,
    ),
    "I8": (
        "each account's entries are numbered without a gap and their balances chain",
        """
        SELECT id FROM (
          SELECT id, account_seq, available_after - available_change AS available, held_after - held_change AS held,
            lag(account_seq, 1, 0) OVER own AS seq_before, lag(available_after, 1, 0) OVER own AS available_before,
            lag(held_after, 1, 0) OVER own AS held_before
          FROM wallet_entry WHERE account_id IS NOT NULL WINDOW own AS (PARTITION BY account_id ORDER BY account_seq)
        ) AS step
        WHERE (account_seq, available, held) IS DISTINCT FROM (seq_before + 1, available_before, held_before)
        """,
    ),
    "I8 triggers": (
        "the triggers that keep the ledger balanced and append-only are on",
        """
        SELECT wanted FROM unnest(ARRAY['wallet_journal_append_only', 'wallet_entry_append_only',
          'wallet_journal_balanced', 'wallet_entry_balanced']) AS wanted
        WHERE NOT EXISTS (SELECT 1 FROM pg_trigger WHERE tgname = wanted AND tgenabled IN ('O', 'A'))
        """,
    ),
    "I9": (
        "a deposit's reference and a hold's reference count once for an account",
        """
        SELECT min(id::text) FROM wallet_journal WHERE idem <> '' GROUP BY idem HAVING count(*) > 1
        UNION ALL
        SELECT min(id::text) FROM wallet_hold
        WHERE reference <> '' AND (status <> 'released' OR task_id IS NOT NULL)
        GROUP BY account_id, reference HAVING count(*) > 1
        """,
    ),
    "I11": (
        "amounts are whole micro-credits, and holds are of more than none",
        """
        SELECT id::text FROM wallet_hold WHERE amount <= 0
        UNION ALL
        SELECT attrelid::regclass || '.' || attname FROM pg_attribute
        WHERE attrelid IN ('wallet_wallet'::regclass, 'wallet_hold'::regclass, 'wallet_entry'::regclass)
          AND attname ~ 'available|held|amount|charged|deposited' AND atttypid <> 'bigint'::regtype
        """,
    ),
}


def run() -> list[Check]:
    """Every invariant of the ledger, checked on one snapshot."""
    return examine(INVARIANTS)


def examine(invariants: Mapping[str, tuple[str, str]]) -> list[Check]:
    """`invariants`: name -> (description, query whose first column names each row that breaks it)."""
    alone = not connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if alone:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SET LOCAL statement_timeout = 0")
        return [
            _check(cursor, name, description, query)
            for name, (description, query) in invariants.items()
        ]


def _check(cursor: CursorWrapper, name: str, description: str, query: str) -> Check:
    cursor.execute(
        f"SELECT count(*), (array_agg(breach.id::text))[1:{SAMPLE}] FROM ({query}) AS breach(id)"  # noqa: S608
    )
    violations, sample = cursor.fetchone()
    return Check(name, description, violations, sample or [])
