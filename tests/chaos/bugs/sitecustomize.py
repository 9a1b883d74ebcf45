"""Puts one bug into every Python process that starts with this folder first on PYTHONPATH and CHAOS_BUG set.

The product's code knows nothing of it: the source of a module is changed while it is imported. Standard library only,
and nothing of the tests: the processes of the system import this before everything else.
"""

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType
from typing import NamedTuple


class Bug(NamedTuple):
    """In `module` the text `right`, which is there once, becomes `wrong`."""

    module: str
    right: str
    wrong: str


BUGS = {
    # The broker's word that a message is stored is not waited for.
    "no-confirm": Bug("workers.publisher", "self._confirms.wait(SOCKET_TIMEOUT)", "pass"),
    # A message that no queue takes is lost without a word.
    "no-mandatory": Bug("workers.publisher", "mandatory=True", "mandatory=False"),
    # A message is acknowledged before the work.
    "early-ack": Bug("workers.settings", '"task_acks_late": True', '"task_acks_late": False'),
    # A result is written whatever has become of the job meanwhile.
    "no-attempt-guard": Bug(
        "inference_portal.jobs.record",
        "AND jobs_job.attempt = v.attempt AND jobs_job.state IN ({state_list})",
        "AND (TRUE OR jobs_job.state IN ({state_list}))",
    ),
    # The worker acknowledges the bundle, and publishes its result a moment later.
    "ack-before-publish": Bug(
        "workers.tasks",
        """    _publisher.send_again(
        RECORD,
        result.to_message(),""",
        """    (lambda *given, **named: threading.Timer(12.0, _publisher.send_again, given, named).start())(
        RECORD,
        result.to_message(),""",
    ),
    # Nobody looks for claims and leases that are over.
    "no-sweep": Bug(
        "inference_portal.jobs.dispatch",
        "CHORES = (Chore(sweep), Chore(expire), Chore(purge))",
        "CHORES = (Chore(expire), Chore(purge))",
    ),
    # The broker delivers a message that kills its worker for ever.
    "no-delivery-limit": Bug("workers.topology", '            "x-delivery-limit": DELIVERY_LIMIT,\n', ""),
    # The recorder acknowledges a result before it is in the database.
    "recorder-acks-early": Bug(
        "inference_portal.celery",
        "app.conf.imports = (",
        "app.conf.task_acks_late = False\napp.conf.imports = (",
    ),
}


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles the changed source; never reads or writes the cache of the right one."""

    def __init__(self, bug: Bug, path: str) -> None:
        super().__init__(bug.module, path)
        self._bug = bug

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path).decode()
        if source.count(self._bug.right) != 1:
            raise ImportError(f"{self._bug.module} has changed; this is not in it once: {self._bug.right!r}")
        return compile(source.replace(self._bug.right, self._bug.wrong), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds one module, as Python would, and loads it with the bug."""

    def __init__(self, bug: Bug) -> None:
        self._bug = bug

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._bug.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(self._bug, spec.origin)
        return spec


if name := os.environ.get("CHAOS_BUG"):
    sys.meta_path.insert(0, _Finder(BUGS[name]))
