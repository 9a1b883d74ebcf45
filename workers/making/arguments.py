"""What one can say to the commands that run here. Apart from them, as the portal's process runs no XGBoost."""

from argparse import ArgumentParser
from typing import Any

OPTIONS = ("csv", "from", "data", "target", "task", "without")


def add_new(parser: ArgumentParser) -> None:
    """Declare what `new` takes."""
    parser.add_argument("name", help="the model: a-z, 0-9, _ and -; if it is there already, its next version is made")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--csv", metavar="FILE", help="train a model of this file; its first line names the columns")
    source.add_argument("--from", metavar="FILE", help="take this model, UBJ or JSON of XGBoost")
    parser.add_argument("--target", metavar="COLUMN", help="the column of the CSV that is to be predicted")
    parser.add_argument("--task", choices=("classes", "amount"), help="what a target of a few whole numbers means")
    parser.add_argument("--without", metavar="COLUMN", action="append", default=[], help="a column to leave out")
    _add_data(parser)


def add_import(parser: ArgumentParser) -> None:
    """Declare what `import` takes."""
    parser.add_argument("from", metavar="file", help="a model of XGBoost, UBJ or JSON")
    parser.add_argument("name", help="the model that it is the next version of; its manifest is taken over")
    _add_data(parser)


def add_diff(parser: ArgumentParser) -> None:
    """Declare what `diff` takes."""
    parser.add_argument("name", metavar="model")
    parser.add_argument("old")
    parser.add_argument("new")


def _add_data(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--data", metavar="FILE", help="rows (CSV) of the kind it gets: for categories, ranges and golden samples"
    )


def said(options: dict[str, Any]) -> list[str]:
    """Return the options that were given as one says them: `--csv=file.csv`."""
    words = []
    for name in OPTIONS:
        value = options.get(name)
        values = value if isinstance(value, list) else [value] if value is not None else []
        words += [f"--{name}={each}" for each in values]
    return words
