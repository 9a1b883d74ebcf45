"""The steps of a batch, one a file. Each is a job: what is done twice gives the same twice.

A step's `run` takes its work, checked by the file's own model of it, and returns what the portal needs to go on.
The files are imported when their step comes: pyarrow takes 40 MB, and most workers do no steps.
"""

from typing import Any

import orjson

from workers.datasets import DatasetError
from workers.model_store import Release
from workers.served import Served

# What needs the model in memory, and what only its manifest.
PREDICTING = frozenset({"chunk"})
DESCRIBED = frozenset({"plan", "merge"})


def run(step: str, work: bytes, release: Release | None, served: Served | None) -> str:
    """Do a step; `work` is JSON, and so is what is returned (see each step's file).

    `release` is there for the steps in DESCRIBED, `served` for those in PREDICTING. Raises DatasetError, also for a
    step or a work that can't be understood, Unreachable, MemoryError, and what a model raises.
    """
    try:
        asked = orjson.loads(work)
    except orjson.JSONDecodeError as error:
        raise DatasetError(f"the work of the step {step!r} is not JSON: {error}") from error
    return orjson.dumps(_done(step, asked, release, served)).decode()


def _done(step: str, asked: Any, release: Release | None, served: Served | None) -> dict[str, Any]:
    if step == "plan" and release is not None:
        from workers.steps import plan

        return plan.run(asked, release)
    if step == "chunk" and served is not None:
        from workers.steps import chunk

        return chunk.run(asked, served)
    if step == "merge" and release is not None:
        from workers.steps import merge

        return merge.run(asked, release)
    if step == "clean":
        from workers.steps import clean

        return clean.run(asked)
    raise DatasetError(f"there is no step of the kind {step!r}; it is plan, chunk, merge or clean")
