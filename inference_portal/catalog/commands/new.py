"""`manage.py model new`: a model from a CSV or from a model file."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from workers.making import arguments
from workers.making.process import make

HELP = "make a model, or its next version, from a CSV or from a model file"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what it takes."""
    arguments.add_new(parser)


def run(*, name: str, **options: Any) -> None:
    """Make it, in a process that may run XGBoost. Raises CommandError after the process told what is wrong."""
    if problem := make("new", *arguments.said(options), "--", name):
        raise CommandError(problem)
