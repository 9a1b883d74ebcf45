"""Named places where a test can stop a real process. Only tests set the variable FAILPOINTS.

`FAILPOINTS="worker.before_predict=kill"` or `…=sleep:5`, several separated by commas. Each fires once for the whole
system, also across restarts: who fires first leaves a mark in the run folder.
"""

import os
import signal
import time

from workers.config import run_dir

_ACTIONS = dict(part.split("=", 1) for part in os.environ.get("FAILPOINTS", "").split(",") if part)


def failpoint(name: str) -> None:
    """Do what the environment asks for at this place: `kill` (SIGKILL to this process) or `sleep:<seconds>`."""
    action = _ACTIONS.get(name)
    if action is None:
        return
    try:
        (run_dir() / f"failpoint.{name}").touch(exist_ok=False)
    except FileExistsError:
        return
    kind, _, argument = action.partition(":")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "sleep":
        time.sleep(float(argument))
    else:
        raise ValueError(f"FAILPOINTS: {name}={action}: use kill or sleep:<seconds>")
