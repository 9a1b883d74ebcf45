"""`manage.py model rollback`: go back to the traffic before the last release."""

from argparse import ArgumentParser

from inference_portal.catalog import releases
from inference_portal.catalog.commands import acting

HELP = "go back at once to the traffic before the last release"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what it takes."""
    acting.add_arguments(parser)


def run(*, model: str, reason: str, **options: object) -> None:
    """Go back. Raises CommandError."""
    with acting.refusals_told():
        event = releases.rollback(model=model, who=acting.who(), reason=reason)
    print(acting.told(event))
