"""`manage.py model import`: the next version of a model from a model file."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from workers.making import arguments
from workers.making.process import make

HELP = "make the next version of a model from a model file, with the manifest of the one before"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what it takes."""
    arguments.add_import(parser)


def run(*, name: str, data: str | None, **options: Any) -> None:
    """Make it, in a process that may run XGBoost. Raises CommandError after the process told what is wrong."""
    if problem := make("import", *arguments.said({"data": data}), "--", options["from"], name):
        raise CommandError(problem)
