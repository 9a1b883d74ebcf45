"""`manage.py sweep`: bring back lost jobs by hand."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from inference_portal import checks
from inference_portal.jobs.sweep import sweep


class Command(BaseCommand):
    """Run the sweep once."""

    help = "Send jobs again whose lease is over (the dispatcher does this every second)."
    requires_system_checks = (checks.OURS,)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--everything", action="store_true", help="all that is under way; only while nothing runs")

    def handle(self, *args: Any, **options: Any) -> None:
        """Sweep until nothing is left."""
        total = 0
        while back := sweep(everything=options["everything"]):
            total += back
        self.stdout.write(f"{total} jobs sent again")
