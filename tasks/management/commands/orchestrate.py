"""`manage.py orchestrate`: admit, poll, reap, deliver, chores."""

from typing import Any

from django.core.management.base import BaseCommand

from tasks import orchestrator


class Command(BaseCommand):
    help = "Run the orchestrator until SIGTERM. Any number of replicas may run."

    def handle(self, *args: Any, **options: Any) -> None:
        orchestrator.main()
