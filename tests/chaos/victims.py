"""The system's processes by their role, read from the process trees of its supervisors."""

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from tests.stack import Stack


@dataclass(frozen=True, slots=True)
class Role:
    """Some of the system's processes: those whose command line has the words, or these processes' children."""

    name: str
    words: str
    children: bool = False


ROLES = (
    Role("portal", "inference_portal.wsgi"),
    Role("portal child", "inference_portal.wsgi", children=True),
    Role("dispatcher", "manage.py dispatch"),
    Role("worker", "-n cpu@"),
    Role("worker child", "-n cpu@", children=True),
    Role("isolated worker", "-n isolated-cpu@"),
    Role("isolated worker child", "-n isolated-cpu@", children=True),
    Role("recorder", "-n recorder"),
    Role("recorder child", "-n recorder", children=True),
    Role("courier", "manage.py deliver"),
)


def processes(stack: Stack) -> Mapping[str, list[psutil.Process]]:
    """Return the running processes of each role, by the role's name."""
    found: dict[str, list[psutil.Process]] = {role.name: [] for role in ROLES}
    for parent in [child for supervisor in stack.supervisors for child in _children(supervisor)]:
        with contextlib.suppress(psutil.Error):
            command = " ".join(parent.cmdline())
            for role in ROLES:
                if role.words in command:
                    found[role.name] += _children(parent) if role.children else [parent]
    return found


def _children(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [child for child in process.children() if child.status() != psutil.STATUS_ZOMBIE]
    return []
