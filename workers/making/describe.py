"""What a new manifest says of columns, output and its own making."""

import shlex
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workers.making.arguments import said
from workers.template.columns import Column
from workers.template.json_schema import FILE as SCHEMA


def as_listed(columns: Sequence[Column]) -> list[dict[str, Any]]:
    """Return the columns as a manifest lists them."""
    return [column.model_dump(mode="json", exclude_unset=True) for column in columns]


def output(labels: Sequence[str]) -> dict[str, Any]:
    """Return what a manifest says of a model that gives a probability for each label, or an amount."""
    if not labels:
        return {"kind": "regression"}
    return {"kind": "binary" if len(labels) == 2 else "multiclass", "labels": list(labels)}


def head(store: Path, given: Namespace) -> str:
    """Return the lines of comment above a manifest: the form for editors, and the command that made it."""
    form = f"# yaml-language-server: $schema=../../{SCHEMA}\n" if (store / SCHEMA).exists() else ""
    options = vars(given)
    words = ["new", given.name, *said(options)] if given.command == "new" else ["import", options["from"], given.name]
    # Shell words may have line ends in them; a line of comment may not.
    return f"{form}# Made by `{' '.join(shlex.join(['manage.py', 'model', *words]).split())}`.\n"
