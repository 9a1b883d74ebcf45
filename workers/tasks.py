"""The workers' one task: take a bundle, predict, publish the result, and only then let Celery acknowledge."""

import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from celery import Task
from celery.signals import worker_process_init

from workers import topology
from workers.app import app
from workers.config import model_store_dir
from workers.contract import (
    INFER,
    RECORD,
    STARTED,
    Bundle,
    BundleResult,
    ErrorCode,
    Failure,
    JobItem,
    Outcome,
    Run,
    Started,
)
from workers.failpoints import failpoint
from workers.heartbeat import served_pools
from workers.loaded_models import LoadedModels, ModelUnavailable
from workers.model_store import ModelStore, Release
from workers.outputs import encode_tensors, named_outputs
from workers.publisher import Publisher
from workers.runtimes import Matrix, Model

logger = logging.getLogger(__name__)

# A bundle that runs longer than this is announced, so that people see `running`; most never are.
ANNOUNCE_AFTER_SECONDS = 0.25

_store = ModelStore(model_store_dir())
_models = LoadedModels(_store)
# Used after the fork only: it opens its connection on first use.
_publisher = Publisher(app)


@worker_process_init.connect
def preload(**kwargs: Any) -> None:
    """Load what this child's pools serve before its first bundle; after the fork, as XGBoost needs it.

    In the isolation lane too: the time that loading takes would count as the suspect's own.
    """
    pools = {lane.removesuffix(topology.ISOLATED) for lane in served_pools(app)}
    snapshot = _store.snapshot()
    for problem in snapshot.problems:
        logger.warning("not served: %s", problem)
    for versions in snapshot.releases.values():
        for release in versions.values():
            manifest = release.manifest
            if manifest.pool in pools:
                try:
                    _models.get(manifest.model, manifest.version, manifest.artifact.sha256)
                except ModelUnavailable as error:
                    logger.warning("cannot serve %s; the others are served", error)


class Engine(NamedTuple):
    """What a bundle ran on: the device in effect, and the libraries with their versions."""

    device: str = ""
    libraries: str = ""


@app.task(name=INFER, bind=True, Request="workers.lost:BundleRequest")
def infer(task: Task, message: Mapping[str, Any]) -> None:
    """Run one bundle. Raises UnreadableMessage (dead-lettered by the broker) for a message of another shape."""
    bundle = Bundle.from_message(message)
    failpoint("worker.received", bundle.data)
    begun = time.monotonic()
    run = Run(
        worker=f"{task.request.hostname}/{os.getpid()}", host=socket.gethostname(), device="", started=time.time()
    )
    engine, outcomes = Engine(), []
    if _came_before(task):
        # Whoever had it may have died of it, and it may be any of its jobs: the portal tries each alone.
        lost = Failure(ErrorCode.WORKER_LOST, "the broker delivered it again: the first worker died or was cut off")
        outcomes = [Outcome(job.id, job.attempt, failure=lost) for job in bundle.jobs]
    else:
        bundle, outcomes = _without_expired(bundle, run.started)
        if bundle.jobs:
            engine, done = _run_announced(bundle, run)
            outcomes += done
    failpoint("worker.after_predict", bundle.data)
    run = replace(
        run, device=engine.device, libraries=engine.libraries, finished=run.started + time.monotonic() - begun
    )
    result = BundleResult(bundle=bundle.id, run=run, outcomes=tuple(outcomes))
    _publisher.send_again(
        RECORD,
        result.to_message(),
        exchange=topology.RESULTS,
        routing_key=f"result.{bundle.model}",
        about=f"{bundle.model}:{bundle.version} {len(outcomes)} jobs",
    )
    failpoint("worker.before_ack")


def _came_before(task: Task) -> bool:
    """Tell whether the broker has delivered this message to a worker before."""
    delivery: Mapping[str, Any] = task.request.delivery_info or {}
    return bool(delivery.get("redelivered") or task.request.get("x-delivery-count"))


def _without_expired(bundle: Bundle, now: float) -> tuple[Bundle, list[Outcome]]:
    """Take out the jobs whose time to live is over. Returns the rest and the outcomes of those taken out."""
    kept, data, outcomes, start = [], [], [], 0
    for job in bundle.jobs:
        end = start + 4 * bundle.columns * job.rows
        if job.expires is not None and job.expires <= now:
            late = Failure(ErrorCode.EXPIRED, "no worker could start it within its time to live")
            outcomes.append(Outcome(job.id, job.attempt, failure=late))
        else:
            kept.append(job)
            data.append(bundle.data[start:end])
        start = end
    return (replace(bundle, jobs=tuple(kept), data=b"".join(data)) if outcomes else bundle), outcomes


def _run_announced(bundle: Bundle, run: Run) -> tuple[Engine, list[Outcome]]:
    """Run the bundle, and let the portal know if that takes a while."""
    announcement = threading.Timer(ANNOUNCE_AFTER_SECONDS, _announce, (bundle, run))
    announcement.daemon = True
    announcement.start()
    try:
        return run_bundle(bundle)
    finally:
        announcement.cancel()


def run_bundle(bundle: Bundle) -> tuple[Engine, list[Outcome]]:
    """Predict a bundle in one call, or job by job when that fails. Returns what predicted it, and all outcomes."""
    try:
        release, model = _models.get(bundle.model, bundle.version, bundle.sha256)
    except ModelUnavailable as error:
        logger.warning("cannot serve %s", error)
        failure = Failure(ErrorCode.MODEL_UNAVAILABLE, str(error), traceback.format_exc())
        return Engine(), [Outcome(job.id, job.attempt, failure=failure) for job in bundle.jobs]
    matrix = np.frombuffer(bundle.data, dtype="<f4").reshape(-1, bundle.columns)
    failpoint("worker.before_predict", bundle.data)
    outcomes = _predict(release, model, matrix, bundle.jobs)
    if len(bundle.jobs) > 1 and any(o.failure for o in outcomes):
        # One bad job must fail alone.
        starts = np.cumsum([0, *(job.rows for job in bundle.jobs)])
        outcomes = [
            outcome
            for job, start in zip(bundle.jobs, starts, strict=False)
            for outcome in _predict(release, model, matrix[start : start + job.rows], (job,))
        ]
    return Engine(model.device, model.libraries), outcomes


def _predict(release: Release, model: Model, matrix: Matrix, jobs: tuple[JobItem, ...]) -> list[Outcome]:
    try:
        _check(release, matrix)
        failpoint("worker.in_predict", matrix.data)
        output = release.manifest.output
        raw = model.predict(matrix)
        if not np.isfinite(raw).all():
            raise ValueError("the model gave a value that is not a finite number")
        arrays = named_outputs(output, raw)
        outcomes, start = [], 0
        for job in jobs:
            rows = slice(start, start + job.rows)
            outcomes.append(Outcome(job.id, job.attempt, outputs=encode_tensors(output.tensors, arrays, rows)))
            start += job.rows
    except _BadData as error:
        failure = Failure(ErrorCode.BAD_DATA, str(error))
    except MemoryError:
        failure = Failure(ErrorCode.OUT_OF_MEMORY, f"out of memory at {len(matrix)} rows", traceback.format_exc())
    except Exception as error:
        first_line = f"{type(error).__name__}: {error}".partition("\n")[0]
        failure = Failure(ErrorCode.MODEL_ERROR, first_line, traceback.format_exc())
    else:
        return outcomes
    return [Outcome(job.id, job.attempt, failure=failure) for job in jobs]


class _BadData(ValueError):
    """Data that the portal should have refused; the worker doesn't rely on it."""


def _check(release: Release, matrix: Matrix) -> None:
    """Raise _BadData for what XGBoost would silently take for something else."""
    columns = len(release.schema.names)
    if matrix.shape[1] != columns:
        raise _BadData(f"{matrix.shape[1]} columns, the model takes {columns}")
    if faults := release.schema.faults(matrix):
        first = faults[0]
        raise _BadData(f"row {first.row}, column '{release.schema.names[first.column]}': {first.reason}")


def _announce(bundle: Bundle, run: Run) -> None:
    started = Started(bundle=bundle.id, run=run, jobs=tuple((job.id, job.attempt) for job in bundle.jobs))
    try:
        _publisher.send(
            STARTED,
            started.to_message(),
            exchange=topology.RESULTS,
            routing_key=f"started.{bundle.model}",
            about=bundle.id,
        )
    except Exception:
        # Only for the eye: the result is what counts.
        logger.warning("start of bundle %s not announced", bundle.id, exc_info=True)
