"""The embedded system's database with all tables in it, made once a run and copied: a migration is five CPU seconds."""

import functools
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAME = "portal.sqlite3"


def copy_sqlite(run_dir: Path) -> None:
    """Put a copy into the run folder of a system that hasn't begun yet."""
    shutil.copyfile(_sqlite(), run_dir / NAME)


def migrate(**variables: str) -> None:
    """Run `manage.py migrate` with these variables."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "BROKER_URL")}
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0", "--skip-checks"]
    subprocess.run(command, cwd=ROOT, env=inherited | variables, check=True)


@functools.cache
def _sqlite() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="migrated-", dir=os.environ.get("RUN_DIR")))
    migrate(RUN_DIR=str(folder))
    whole = folder / "whole.sqlite3"
    # Its log beside it, too.
    with closing(sqlite3.connect(folder / NAME)) as connection:
        connection.execute("VACUUM INTO ?", [str(whole)])
    return whole
