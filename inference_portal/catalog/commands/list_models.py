"""`manage.py model list`: all versions with their traffic, and what is wrong."""

from argparse import ArgumentParser

from inference_portal.catalog.commands import acting
from inference_portal.catalog.traffic import current
from inference_portal.catalog.versions import versions_of
from inference_portal.store import model_store

HELP = "all versions with their state and their traffic, and what is wrong"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare what it takes."""
    parser.add_argument("model", nargs="?", help="only this one")


def run(*, model: str | None, **options: object) -> None:
    """Print them, and after them what can't be served."""
    snapshot = model_store().snapshot()
    names = sorted(snapshot.releases) if model is None else [model]
    with acting.refusals_told():
        lines = [
            (name, each.version, each.state, each.percent, each.release.manifest.description)
            for name in names
            for each in versions_of(name)
        ]
    table = [("model", "version", "state", "traffic", "description"), *lines]
    widths = [max(len(line[column]) for line in table) for column in range(4)]
    for line in table:
        print("  ".join(text.ljust(width) for text, width in zip(line, [*widths, 0], strict=True)).rstrip())
    for name in names:
        for problem in current().problems(name):
            print(f"{name}: {problem}")
    for wrong in snapshot.problems:
        print(f"not served: {wrong}")
