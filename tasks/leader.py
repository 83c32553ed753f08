"""The leader lease of admission: one row, one conditional UPDATE as the first statement of every round.

It works through any pooler and fences zombies: a leader that slept finds its row taken over and steps down.
"""

import os
import socket

from genpulse import sql
from genpulse.config import config
from genpulse.ids import new_id

SEED = "INSERT INTO tasks_orchestratorlease (id, holder, epoch) VALUES (1, '', 0) ON CONFLICT DO NOTHING"
ROW = "SELECT id FROM tasks_orchestratorlease"
HOLD = """
UPDATE tasks_orchestratorlease
SET holder = %(me)s, epoch = CASE WHEN holder = %(me)s THEN epoch ELSE epoch + 1 END,
    until = clock_timestamp() + make_interval(secs => %(life)s)
WHERE id = 1 AND ((holder = %(me)s AND epoch = %(epoch)s) OR until < clock_timestamp())
RETURNING epoch, set_config('idle_in_transaction_session_timeout', %(stuck)s, true)
"""
RELEASE = (
    "UPDATE tasks_orchestratorlease SET until = clock_timestamp() WHERE id = 1 AND holder = %s"
)

# A leader that freezes inside a round must not keep its row locked against the next one.
STUCK = "5s"


class Lease:
    """This process's claim to be the one that admits."""

    def __init__(self) -> None:
        self.me = f"{socket.gethostname()}:{os.getpid()}:{new_id().hex[-6:]}"
        self.epoch = -1

    def ask(self) -> sql.Answer:
        """Send the question for `hold`, the first one of a transaction."""
        with_names = {
            "me": self.me,
            "epoch": self.epoch,
            "life": config.leader_seconds,
            "stuck": STUCK,
        }
        with sql.together(STUCK):
            return sql.later(HOLD, with_names)

    def hold(self, asked: sql.Answer | None = None) -> bool:
        """Take or renew it in the current transaction; False = somebody else has it."""
        rows = (asked or self.ask()).rows()
        if not rows and not sql.fetch(ROW):
            sql.execute(SEED)
        self.epoch = rows[0][0] if rows else -1
        return bool(rows)

    def release(self) -> None:
        """Let the next one take over at once."""
        sql.execute(RELEASE, [self.me])
