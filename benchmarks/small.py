"""The baseline of P2 and P8: the smallest honest Django service on the same server, `python -m benchmarks.small`.

No framework above Django and no middleware. `/empty` answers with nothing. `/row` finds the API key in the database,
checks it, and commits one row.
"""

import json
import os
import sys
from uuid import uuid4

from django.http import HttpRequest, HttpResponse
from django.urls import path

ROW = "INSERT INTO bench_row (id, account_id, body) VALUES (%s, %s, %s)"


def empty(request: HttpRequest) -> HttpResponse:
    return answer(b"")


def row(request: HttpRequest) -> HttpResponse:
    from django.db import connection, transaction

    from genpulse.auth import keys
    from genpulse.auth.models import ApiKey

    text = request.headers["Authorization"].removeprefix("Bearer ")
    key = ApiKey.objects.select_related("user").get(lookup=keys.lookup_of(text))
    assert keys.matches(text, key.digest)
    id_, body = str(uuid4()), json.loads(request.body)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(ROW, [id_, key.user.account_id, json.dumps(body)])
    return answer(json.dumps({"id": id_}).encode(), status=201)


def answer(body: bytes, status: int = 200) -> HttpResponse:
    length = {"Content-Length": str(len(body))}
    return HttpResponse(body, "application/json", status, headers=length)


urlpatterns = [path("empty", empty), path("row", row)]


def make_table() -> None:
    from genpulse import sql

    sql.execute("CREATE TABLE bench_row (id uuid PRIMARY KEY, account_id uuid, body jsonb)")


def main() -> None:
    """Serve on the port of the first argument, with the options of the web process."""
    import django
    import uvicorn
    from django.conf import settings
    from django.core.asgi import get_asgi_application

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "genpulse.settings")
    settings.ROOT_URLCONF, settings.MIDDLEWARE = "benchmarks.small", []
    django.setup()
    from django.db import connections

    pool = {"min_size": 2, "max_size": 16, "timeout": 10}
    connections.settings["default"]["OPTIONS"]["pool"] = pool
    uvicorn.run(
        get_asgi_application(),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
