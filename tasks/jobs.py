"""Celery entry points. A job is a doorbell: it carries ids, and everything else is read from PostgreSQL.

A message that is malformed, doubled, late or replayed changes nothing but a count: what may happen is decided by
compare-and-swap on the attempt.
"""

from typing import Any
from uuid import UUID

import structlog
from django.db import connection

from genpulse.celery import PRIORITY_STEPS, app
from genpulse.ids import parse_id
from tasks import chores

log = structlog.get_logger(__name__)
DOORBELL = "tasks.doorbells:Doorbell"


class MalformedJob(Exception):
    """The arguments of a message are not the ids this job expects."""


def task_and_attempt(args: tuple[Any, ...]) -> tuple[UUID, int]:
    task = parse_id(args[0]) if len(args) == 2 and isinstance(args[0], str) else None
    if task is None or type(args[1]) is not int:
        raise MalformedJob("want a task id and an attempt")
    return task, args[1]


def attempts(items: Any) -> list[tuple[UUID, int]]:
    if not isinstance(items, list) or not items:
        raise MalformedJob("want a list of attempts")
    return [task_and_attempt(tuple(item) if isinstance(item, list) else ()) for item in items]


def claims(args: tuple[Any, ...]) -> tuple[str, int, list[tuple[UUID, int]]]:
    if len(args) != 3 or not isinstance(args[0], str) or args[1] not in list(PRIORITY_STEPS):
        raise MalformedJob("want a queue, a level and a list of attempts")
    return args[0], args[1], attempts(args[2])


def looks(args: tuple[Any, ...]) -> list[tuple[UUID, int]]:
    if len(args) != 2:
        raise MalformedJob("want an executor id and a list of attempts")
    return attempts(args[1])


@app.task(name="gp.submit", Request=DOORBELL)
def submit(*args: Any) -> str:
    """Run attempts: queue, level, and a list of (task, attempt). Each in a thread; those without one ring again. I/O worker."""
    from tasks import doorbells, publish, runner

    def run(claim: tuple[UUID, int]) -> str:
        return guarded("gp.submit", claim, lambda: runner.run(*claim))

    def run_all() -> str:
        queue, level, (first, *others) = claims(args)
        left = doorbells.crew.share(others, run)
        publish.publish(publish.submits((*claim, queue, level) for claim in left))
        return run(first)

    return guarded("gp.submit", args, run_all)


@app.task(name="gp.fetch")
def fetch(*args: Any) -> str:
    """Store a vendor's answer. Media worker."""
    from tasks import storing

    return guarded("gp.fetch", args, lambda: storing.run(*task_and_attempt(args)))


@app.task(name="gp.poll", Request=DOORBELL)
def poll(*args: Any) -> str:
    """Ask the vendor how accepted jobs are: executor id and a list of (task, attempt). I/O worker."""
    from tasks import polling

    return guarded("gp.poll", args, lambda: polling.poll(looks(args)))


@app.task(name="gp.find", Request=DOORBELL)
def find(*args: Any) -> str:
    """Look up a submit of unknown outcome. I/O worker."""
    from tasks import polling

    return guarded("gp.find", args, lambda: polling.find(*task_and_attempt(args)))


@app.task(name="gp.deliver", Request=DOORBELL)
def deliver(*args: Any) -> str:
    """Send one webhook, and what else is due for its host. I/O worker."""
    from tasks import webhooks

    return guarded("gp.deliver", args, lambda: webhooks.run(*task_and_attempt(args)))


@app.task(name="gp.chore")
def chore(*args: Any) -> str:
    """Slow periodic work. Media worker."""
    return guarded("gp.chore", args, lambda: chores.run(*args))


def guarded(job: str, args: tuple[Any, ...], run: Any) -> str:
    """A malformed message is kept for operators and acknowledged; an error is logged, its lease or timer recovers."""
    try:
        return str(run())
    except MalformedJob as error:
        from tasks.recorder import dead_letter

        dead_letter(job, "", str(error), args)
        connection.close()
        return "malformed"
    except Exception:
        log.exception("job.failed", job=job)
        return "error"
    finally:
        structlog.contextvars.clear_contextvars()
