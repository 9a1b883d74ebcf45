"""The workers' one task: take a bundle, predict, publish the result, and only then let Celery acknowledge."""

import logging
import os
import socket
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from celery import Task
from celery.signals import worker_process_init

from workers import steps, topology
from workers.app import app
from workers.calls import CALL, Call
from workers.config import model_cache_bytes, model_store_dir
from workers.container_http import ContainerError, ContainerUnavailable
from workers.contract import (
    INFER,
    RECORD,
    STARTED,
    STEP,
    Bundle,
    BundleResult,
    ErrorCode,
    Failure,
    JobItem,
    Outcome,
    Run,
    Started,
)
from workers.datasets import DatasetError, Unreachable
from workers.failpoints import failpoint
from workers.heartbeat import served_pools
from workers.loaded_models import LoadedModels, ModelUnavailable
from workers.manifest import EXPLAIN
from workers.model_store import ModelStore, Release
from workers.outputs import encode_tensors
from workers.preprocessing import BadData
from workers.publisher import Publisher
from workers.runtimes import Matrix
from workers.served import Served

logger = logging.getLogger(__name__)

# A bundle that runs longer than this is announced, so that people see `running`; most never are.
ANNOUNCE_AFTER_SECONDS = 0.25

_store = ModelStore(model_store_dir())
_models = LoadedModels(_store, model_cache_bytes())
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
    for release in snapshot.every():
        manifest = release.manifest
        for pool in pools.intersection(manifest.pools):
            explain = pool == EXPLAIN
            try:
                _models.get(manifest.model, manifest.version, manifest.sha256, anywhere=explain)
            except ModelUnavailable as error:
                logger.warning("cannot serve %s; the others are served", error)


class Engine(NamedTuple):
    """What a bundle ran on: the device in effect, and the libraries with their versions."""

    device: str = ""
    libraries: str = ""


# What is done with a bundle.
Work = Callable[[Bundle], tuple[Engine, list[Outcome]]]


@app.task(name=INFER, bind=True, Request="workers.lost:BundleRequest")
def infer(task: Task, message: Mapping[str, Any]) -> None:
    """Run one bundle. Raises UnreadableMessage (dead-lettered by the broker) for a message of another shape."""
    _carry_out(task, Bundle.from_message(message), run_bundle)


@app.task(name=STEP, bind=True, Request="workers.lost:BundleRequest")
def step(task: Task, message: Mapping[str, Any]) -> None:
    """Do one step of a batch, as `infer` does a bundle."""
    _carry_out(task, Bundle.from_message(message), run_step)


def _carry_out(task: Task, bundle: Bundle, work: Work) -> None:
    """Do what a message asks for, once, and publish what came of it."""
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
            engine, done = _announced(bundle, run, work)
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


def _announced(bundle: Bundle, run: Run, work: Work) -> tuple[Engine, list[Outcome]]:
    """Run the bundle, and let the portal know if that takes longer than a moment."""
    announcement = threading.Timer(ANNOUNCE_AFTER_SECONDS, _announce, (bundle, run))
    announcement.daemon = True
    announcement.start()
    try:
        return work(bundle)
    finally:
        announcement.cancel()


def run_bundle(bundle: Bundle) -> tuple[Engine, list[Outcome]]:
    """Predict a bundle in one call, or job by job when that fails. Returns what predicted it, and all outcomes."""
    try:
        served = _models.get(bundle.model, bundle.version, bundle.sha256, anywhere=bundle.explain)
    except ModelUnavailable as error:
        logger.warning("cannot serve %s", error)
        failure = Failure(ErrorCode.MODEL_UNAVAILABLE, str(error), traceback.format_exc())
        return Engine(), [Outcome(job.id, job.attempt, failure=failure) for job in bundle.jobs]
    matrix = np.frombuffer(bundle.data, dtype="<f4").reshape(-1, bundle.columns)
    failpoint("worker.before_predict", bundle.data)
    # What is for a container is never bundled.
    CALL.set(Call(bundle.jobs[0].id, bundle.jobs[0].attempt, bundle.prefer))
    outcomes = _predict(served, matrix, bundle.jobs, bundle.explain)
    if len(bundle.jobs) > 1 and any(o.failure for o in outcomes):
        # One bad job must fail alone.
        starts = np.cumsum([0, *(job.rows for job in bundle.jobs)])
        outcomes = [
            outcome
            for job, start in zip(bundle.jobs, starts, strict=False)
            for outcome in _predict(served, matrix[start : start + job.rows], (job,), bundle.explain)
        ]
    return Engine(served.model.device, served.model.libraries), outcomes


def run_step(bundle: Bundle) -> tuple[Engine, list[Outcome]]:
    """Do one step of a batch. Returns what predicted, if anything did, and the outcome of its job."""
    (job,) = bundle.jobs
    try:
        release = served = None
        if bundle.step in steps.DESCRIBED:
            release = _models.release(bundle.model, bundle.version, bundle.sha256)
        if bundle.step in steps.PREDICTING:
            served = _models.get(bundle.model, bundle.version, bundle.sha256, anywhere=True)
        CALL.set(Call(job.id, job.attempt))
        outcome = Outcome(job.id, job.attempt, outputs=steps.run(bundle.step, bundle.data, release, served))
    except Exception as error:
        return Engine(), [Outcome(job.id, job.attempt, failure=_failure(error, job.rows))]
    return Engine() if served is None else Engine(served.model.device, served.model.libraries), [outcome]


def _failure(error: Exception, rows: int) -> Failure:
    """Return what the portal is told of an error."""
    if isinstance(error, (BadData, DatasetError)):
        return Failure(ErrorCode.BAD_DATA, str(error))
    if isinstance(error, ModelUnavailable):
        return Failure(ErrorCode.MODEL_UNAVAILABLE, str(error), traceback.format_exc())
    if isinstance(error, MemoryError):
        return Failure(ErrorCode.OUT_OF_MEMORY, f"out of memory at {rows} rows", traceback.format_exc())
    if isinstance(error, ContainerUnavailable):
        return Failure(ErrorCode.CONTAINER_UNAVAILABLE, str(error))
    if isinstance(error, ContainerError):
        return Failure(ErrorCode.CONTAINER_ERROR, str(error))
    if isinstance(error, Unreachable):
        return Failure(ErrorCode.STORAGE_AWAY, str(error), traceback.format_exc())
    first_line = f"{type(error).__name__}: {error}".partition("\n")[0]
    return Failure(ErrorCode.MODEL_ERROR, first_line, traceback.format_exc())


def _predict(served: Served, matrix: Matrix, jobs: tuple[JobItem, ...], explain: bool) -> list[Outcome]:
    try:
        _check(served.release, matrix)
        failpoint("worker.in_predict", matrix.data)
        arrays = served.outputs(matrix, explain=explain)
        # None of a container that goes on by itself.
        tensors = served.release.manifest.tensors(explain=explain) if arrays else ()
        outcomes, start = [], 0
        for job in jobs:
            rows = slice(start, start + job.rows)
            outcomes.append(Outcome(job.id, job.attempt, outputs=encode_tensors(tensors, arrays, rows)))
            start += job.rows
    except Exception as error:
        return [Outcome(job.id, job.attempt, failure=_failure(error, len(matrix))) for job in jobs]
    return outcomes


def _check(release: Release, matrix: Matrix) -> None:
    """Raise BadData for what XGBoost would silently take for something else; the portal should have refused it."""
    columns = len(release.schema.names)
    if matrix.shape[1] != columns:
        raise BadData(f"{matrix.shape[1]} columns, the model takes {columns}")
    if faults := release.schema.faults(matrix):
        first = faults[0]
        raise BadData(f"row {first.row}, column '{release.schema.names[first.column]}': {first.reason}")


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
