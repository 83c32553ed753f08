"""`GET /api/admin/dashboard/metrics`: how many tasks there are, by status, source and executor."""

from typing import Any

from rest_framework.request import Request
from rest_framework.response import Response

from genpulse import sql
from genpulse.dialects.platform_admin.resources import ADMIN
from genpulse.http.views import DoorView

# The empty set of columns is the total; a task that was never placed counts under no executor.
COUNTS = """
SELECT status, source, executor, count(*) FROM tasks_task WHERE hidden_at IS NULL
GROUP BY GROUPING SETS ((status), (source), (executor), ())
HAVING grouping(executor) = 1 OR executor IS NOT NULL
"""


class Metrics(DoorView):
    """Counts of the tasks of everybody."""

    scopes = ADMIN

    def get(self, request: Request) -> Response:
        found: dict[str, Any] = {"total": 0, "status": {}, "source": {}, "executor": {}}
        for status, source, executor, count in sql.fetch(COUNTS):
            words = {"status": status, "source": source, "executor": executor}
            named = [(kind, word) for kind, word in words.items() if word is not None]
            for kind, word in named:
                found[kind][word] = count
            if not named:
                found["total"] = count
        return Response(found)
