"""Starts the process that runs models and trains them; whatever a model file does to it, the caller lives on."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from workers.config import ROOT

# Of a comparison that somebody waits for on a page.
TIMEOUT_SECONDS = 60.0


def make(*words: str) -> str | None:
    """Run `python -m workers.making` with these words; it prints. Returns None, or why there is no result."""
    status = subprocess.run(_command(words), env=_environment(), check=False).returncode  # noqa: S603
    return _death(status) if status < 0 else "It was not done; the line above says why." if status else None


def lines(*words: str, store: Path) -> tuple[list[str], str | None]:
    """Run it for somebody who doesn't sit at the terminal. Returns what it printed, and None or why that isn't all."""
    try:
        done = subprocess.run(  # noqa: S603
            _command(words),
            env=_environment() | {"MODEL_STORE": str(store)},
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return [], f"It took longer than {TIMEOUT_SECONDS:g} s and was ended."
    why = _death(done.returncode) if done.returncode < 0 else "".join(done.stderr.strip().splitlines()[-1:])
    return done.stdout.splitlines(), why if done.returncode else None


def _command(words: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "workers.making", *words]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def _death(status: int) -> str:
    return f"The process died of {signal.Signals(-status).name}; the model file may be damaged."
