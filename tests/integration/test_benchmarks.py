"""Benchmarks that write rows by hand go on fitting the tables; what they measure is not looked at."""

import pytest
from django.db import connection

from benchmarks import cast, p5_backlog, tenants
from genpulse import sql
from tasks import leader, verbs
from tasks.models import Task

pytestmark = pytest.mark.django_db(transaction=True)
COUNT = 12


def test_the_backlog_is_written_and_admitted(monkeypatch):
    monkeypatch.setattr(p5_backlog, "TENANTS", COUNT // 2)
    monkeypatch.setattr(p5_backlog, "ROUND", COUNT)
    sql.execute(leader.SEED)
    cast.executor(slots=100)
    sql.execute(p5_backlog.WORKER)
    p5_backlog.people()
    [template] = tenants.submit(tenants.actors(1), 1, cast.text_task(latency=0))
    verbs.cancel([template], by="bench")
    try:
        p5_backlog.fill(template, each=3)
        assert Task.objects.filter(status="queued").count() == 3 * COUNT // 2
        assert p5_backlog.admitted_per_second() > 0
    finally:
        connection.close()  # its time limits are off
    assert Task.objects.filter(status="succeeded").count() >= COUNT
