"""`manage.py model release`: give a version traffic, once its golden samples are answered rightly."""

from argparse import ArgumentParser

from inference_portal.catalog import releases
from inference_portal.catalog.commands import acting

HELP = "give a version traffic, all of it or a weight, once a worker answers its golden samples rightly"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what it takes."""
    acting.add_arguments(parser)
    parser.add_argument("version")
    parser.add_argument("--weight", type=int, default=100, help="percent of the traffic, 1 to 100 (default: all)")
    parser.add_argument("--team", help="whose job the golden samples are; needed where there are several teams")


def run(*, model: str, version: str, weight: int, reason: str, team: str | None, **options: object) -> None:
    """Release. Raises CommandError with the differences."""
    with acting.refusals_told():
        event = releases.release(
            model=model, version=version, caller=acting.operator(team), weight=weight, reason=reason
        )
    print(acting.told(event))
