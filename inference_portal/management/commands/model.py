"""`manage.py model`: make, check, compare and release models."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from inference_portal.catalog.commands import (
    check,
    diff,
    import_model,
    list_models,
    new,
    release,
    retire,
    rollback,
    schema,
)

COMMANDS = {
    "new": new,
    "import": import_model,
    "check": check,
    "diff": diff,
    "list": list_models,
    "release": release,
    "rollback": rollback,
    "retire": retire,
    "schema": schema,
}


class Command(BaseCommand):
    """Everything about the models in the store."""

    help = f"Manage the models: {', '.join(COMMANDS)}."
    # A wrong manifest is what one comes here for; it is no reason not to start.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the subcommands."""
        commands = parser.add_subparsers(dest="command", required=True)
        for name, command in COMMANDS.items():
            command.add_arguments(commands.add_parser(name, help=command.HELP))

    def handle(self, *args: Any, **options: Any) -> None:
        """Do it. Raises CommandError."""
        COMMANDS[options.pop("command")].run(**options)
