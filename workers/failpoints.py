"""Named places where a test can stop a real process. Only tests set the variable FAILPOINTS.

`FAILPOINTS="worker.before_predict=kill,recorder.after_commit=stop:3*20%10"`: name, action, how often (once without a
number), and which percentage of the passes fires (each, without a number). It counts for the whole system, also across
restarts: who fires leaves a mark in the run folder. `name@<hex>` fires only for data that holds these bytes; of such,
one place may have several.
"""

import ctypes
import os
import random
import resource
import signal
import subprocess
import time
from pathlib import Path

from workers.config import run_dir

_PARTS = [part.split("=", 1) for part in os.environ.get("FAILPOINTS", "").split(",") if part]
# Name, the bytes that the data must hold (none: any data), and what to do then.
_ACTIONS = [(place.partition("@")[0], bytes.fromhex(place.partition("@")[2]), wanted) for place, wanted in _PARTS]


def failpoint(name: str, data: bytes | memoryview = b"") -> None:
    """Do what the environment asks for at this place.

    `kill` ends this process with SIGKILL, and `kill-parent` its parent before it, as when a container is out of memory.
    `segfault` and `exit` end it as broken native code does, and a library that gives up. `memory` allocates until there
    is no more, which raises MemoryError.
    `stop:<seconds>` freezes this process with SIGSTOP for so long, `sleep:<seconds>` only this thread.
    """
    for place, poison, wanted in _ACTIONS:
        if place == name and poison in bytes(data):
            _act(name, wanted)


def _act(name: str, wanted: str) -> None:
    wanted_action, _, percent = wanted.partition("%")
    if percent and random.random() * 100 >= float(percent):  # noqa: S311
        return
    action, _, times = wanted_action.partition("*")
    marks = [f"failpoint.{name}.{number + 1}" for number in range(int(times))] if times else [f"failpoint.{name}"]
    if not any(_is_first_to_leave(run_dir() / mark) for mark in marks):
        return
    kind, _, argument = action.partition(":")
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "kill-parent":
        os.kill(os.getppid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "segfault":
        ctypes.string_at(0)
    elif kind == "exit":
        os._exit(1)
    elif kind == "memory":
        _exhaust_memory()
    elif kind == "stop":
        _freeze(float(argument))
    elif kind == "sleep":
        time.sleep(float(argument))
    else:
        known = "kill, kill-parent, segfault, exit, memory, stop:<seconds> or sleep:<seconds>"
        raise ValueError(f"FAILPOINTS: {name}={wanted}: use {known}")


def _is_first_to_leave(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def _exhaust_memory() -> None:
    """Allocate all that this process may have; that is little more than it has, so that no other one suffers."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**26, before[1]))
    hoard = []
    try:
        while True:
            hoard.append(bytearray(2**20))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _freeze(seconds: float) -> None:
    """Stop every thread of this process; somebody else must wake it, so a shell that outlives this call does."""
    waker = f"(sleep {seconds}; kill -CONT {os.getpid()}) >/dev/null 2>&1 &"
    subprocess.run(["/bin/sh", "-c", waker], check=True, start_new_session=True)  # noqa: S603
    os.kill(os.getpid(), signal.SIGSTOP)
