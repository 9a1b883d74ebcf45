"""`manage.py model schema`: the manifest's form for editors."""

from argparse import ArgumentParser

from workers.template.json_schema import json_schema

HELP = "print the manifest's form as a JSON Schema, for a model store of your own: > manifest.schema.json"


def add_arguments(parser: ArgumentParser) -> None:
    """Declare nothing: it takes nothing."""


def run(**options: object) -> None:
    """Print it."""
    print(json_schema(), end="")
