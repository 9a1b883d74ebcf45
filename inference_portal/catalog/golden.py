"""The proof before a release: golden samples go the way of every job, and what a worker answers is compared."""

import contextlib
import time
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import orjson

from inference_portal.accounts.callers import Caller
from inference_portal.catalog.refusals import GoldenMismatch, GoldenMissing, GoldenUnanswered
from inference_portal.jobs import dead_letters
from inference_portal.jobs.models import Attempt, Job, Priority
from inference_portal.jobs.pool import let_go
from inference_portal.jobs.repeats import Identity
from inference_portal.jobs.rerun import NotWaiting
from inference_portal.jobs.services import job_accept, job_cancel, job_new
from inference_portal.jobs.states import State
from workers.contract import ErrorCode
from workers.golden import GoldenError, differences_in, read_samples
from workers.model_store import Release

LABEL = "golden-check"
# A worker that has just seen the version loads it first; somebody waits for the answer on a connection.
SECONDS = 30.0
LOOK_SECONDS = 0.1


def golden_check(*, release: Release, caller: Caller) -> dict[str, Any]:
    """Have a worker answer the release's golden samples. Returns the job's id and how many rows they are.

    It is a job of the caller's team like any other, with the label LABEL; holds no database connection while it waits.
    Raises GoldenMissing, GoldenMismatch, GoldenUnanswered, and what `job_accept` raises.
    """
    try:
        samples = read_samples(release)
    except GoldenError as error:
        raise GoldenMissing(str(error)) from error
    if samples is None:
        raise GoldenMissing("The manifest names no golden samples; without them nothing proves the version.")
    job = job_new(
        caller=caller,
        release=release,
        decoded=samples.decoded,
        identity=Identity(""),
        job_id=uuid4(),
        priority=Priority.HIGH,
        ttl=timedelta(seconds=SECONDS),
        labels=(LABEL,),
    )
    job_accept(job=job)
    answered = _answer(job.id, caller)
    if differences := samples.differences(_outputs(answered)):
        raise GoldenMismatch(differences)
    return {"job": str(job.id), "rows": job.rows}


def _answer(job_id: UUID, caller: Caller) -> Job:
    """Wait for the job's end, and return it with its result. Raises GoldenMismatch, GoldenUnanswered."""
    end = time.monotonic() + SECONDS
    while True:
        job = Job.objects.defer("input").get(id=job_id)
        if job.state == State.SUCCEEDED:
            return job
        # A worker that can't load it is no reason to stop: it may not have seen the new files yet.
        if job.is_final or time.monotonic() > end or _found(job):
            break
        let_go()
        time.sleep(LOOK_SECONDS)
    job_cancel(job_id=job_id)
    if job.state == State.DEAD_LETTERED:
        # Who asked for the release is told; nobody has to look after it any more.
        with contextlib.suppress(NotWaiting):
            dead_letters.discard(job_id=job_id, caller=caller, reason="The release that it was made for is refused.")
    if differences := _found(job):
        raise GoldenMismatch(differences)
    why = f"{job.error_code}: {job.error_message}" if job.error_code else "no worker has taken them"
    raise GoldenUnanswered(f"The golden samples (job {job_id}) have no answer within {SECONDS:g} s: {why}.")


def _found(job: Job) -> Any:
    """Return the differences for which a worker refused to load the model; it compares before it serves anything."""
    if job.error_code != ErrorCode.MODEL_UNAVAILABLE:
        return []
    last = Attempt.objects.filter(job=job).order_by("-number").first()
    return [] if last is None else differences_in(last.traceback)


def _outputs(job: Job) -> dict[str, Any]:
    """Return the job's outputs by name, each a list with a value or a list a row."""
    tensors = orjson.loads(bytes(job.result or b"[]"))
    return {t["name"]: np.array(t["data"], dtype=object).reshape(t["shape"]).tolist() for t in tensors}
