"""What made an output."""

from typing import Any

from django.utils import timezone

from inference_portal.batches.models import Batch
from inference_portal.batches.results import Merged
from inference_portal.batches.step_jobs import CHUNK
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import State


def receipt_of(batch: Batch, merged: Merged) -> dict[str, Any]:
    """Return the receipt of an output that was written just now, JSON-ready.

    `engines` are the devices and libraries that predicted; `files` the input's, each with its size and version.
    """
    engines = Job.objects.filter(batch_id=batch.id, step=CHUNK, state=State.SUCCEEDED)
    return {
        "model": batch.model,
        "version": batch.version,
        "model_sha256": batch.sha256,
        "attempt": batch.attempt,
        "input": batch.input["uri"],
        "files": batch.planned["files"],
        "rows": merged.rows,
        "rows_failed": merged.failed,
        "output": merged.output,
        "errors": merged.errors,
        "engines": list(engines.order_by("device", "libraries").values("device", "libraries").distinct()),
        "started_at": None if batch.started_at is None else batch.started_at.isoformat(),
        "finished_at": timezone.now().isoformat(),
    }
