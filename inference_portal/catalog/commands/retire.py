"""`manage.py model retire`: take a version out of use."""

from argparse import ArgumentParser

from inference_portal.catalog import releases
from inference_portal.catalog.commands import acting

HELP = "take a version out of use, until it is released again"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what it takes."""
    acting.add_arguments(parser)
    parser.add_argument("version")


def run(*, model: str, version: str, reason: str, **options: object) -> None:
    """Take it out. Raises CommandError."""
    with acting.refusals_told():
        event = releases.retire(model=model, version=version, who=acting.who(), reason=reason)
    print(acting.told(event))
