"""Celery entry points of queue `media`: what a chore asks for by name. No message carries data."""

from genpulse.celery import app
from media import services


@app.task(name="media.thumbnails", queue="media")
def make_missing_thumbnails() -> int:
    """Thumbnails for the images that have none yet; the number made."""
    return services.make_missing_thumbnails()


@app.task(name="media.sweep", queue="media")
def sweep() -> int:
    """Purge what has expired, erase what was deleted; the number of files erased."""
    return services.sweep()
