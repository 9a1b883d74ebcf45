"""`manage.py model diff`: what a release of one version in the place of another changes."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import CommandError

from workers.making import arguments
from workers.making.process import make

HELP = "compare two versions: manifests, columns, sizes, answers to the golden samples"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what it takes."""
    arguments.add_diff(parser)


def run(*, name: str, old: str, new: str, **options: Any) -> None:
    """Compare, in a process that may run XGBoost. Raises CommandError after the process told what is wrong."""
    if problem := make("diff", "--", name, old, new):
        raise CommandError(problem)
