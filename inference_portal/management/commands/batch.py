"""`manage.py batch`: run models over whole data sets, and watch how far they are."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from inference_portal import checks
from inference_portal.batches.commands import cancel, rerun, run, status, watch

COMMANDS = {"run": run, "status": status, "watch": watch, "rerun": rerun, "cancel": cancel}


class Command(BaseCommand):
    """Everything about batches."""

    help = f"Run models over data sets: {', '.join(COMMANDS)}."
    requires_system_checks = (checks.OURS,)

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommands."""
        commands = parser.add_subparsers(dest="command", required=True)
        for name, command in COMMANDS.items():
            # Django's own --version would print Django's.
            command.add_arguments(commands.add_parser(name, help=command.HELP))

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it. Raises CommandError."""
        COMMANDS[options.pop("command")].run(**options)
