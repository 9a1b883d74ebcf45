"""`python -m workers.making …`: what `manage.py model new`, `import` and `diff` run in a process of their own."""

import argparse
import sys

from workers.config import model_store_dir
from workers.making import arguments
from workers.making.compare import compare
from workers.making.from_csv import from_csv
from workers.making.from_file import from_file, next_version
from workers.making.table import DataError


def main() -> int:
    """Make a version, or compare two. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="manage.py model")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, add in (("new", arguments.add_new), ("import", arguments.add_import), ("diff", arguments.add_diff)):
        add(commands.add_parser(name))
    given = parser.parse_args()
    store = model_store_dir()
    try:
        if given.command == "diff":
            for line in compare(store, given.name, given.old, given.new):
                print(line)
            return 0
        make = next_version if given.command == "import" else from_csv if given.csv else from_file
        folder = make(store, given, lambda line: print(line, flush=True))
    except DataError as error:
        print(f"manage.py model: {error}", file=sys.stderr)
        return 1
    print(f"made {folder}; look into its manifest.yaml, then: manage.py model check {folder.parent.name}/{folder.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
