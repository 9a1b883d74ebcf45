"""What a batch's page shows."""

from typing import Any

import orjson
from django.db.models import Case, Value, When

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.batches import fields, files
from inference_portal.batches.files import NotThere, Removed, Stored
from inference_portal.batches.models import Batch
from inference_portal.batches.states import Event, State, sources
from inference_portal.console.batch_labels import CHUNK_COLOURS, batch_label, progress_bar
from inference_portal.console.times import duration_text, moment_text
from inference_portal.jobs.models import Job

MAX_CHUNKS = 100
MAX_EVENTS = 100


def context(batch: Batch, caller: Caller) -> dict[str, Any]:
    """Return what the page shows of a batch that exists for this caller."""
    may = caller.role.allows(Role.SUBMITTER)
    output, gone = _files(batch)
    return {
        "batch": batch,
        "label": batch_label(batch.state),
        "bar": progress_bar(batch),
        "facts": facts(batch, caller),
        "output": output,
        "gone": gone,
        "chunks": chunk_rows(batch),
        "more_chunks": max(0, batch.chunks_total - MAX_CHUNKS),
        "steps": _steps(batch),
        "events": [
            {"at": moment_text(event.at), "what": event.get_kind_display(), "text": event.text}
            for event in batch.events.order_by("-id")[:MAX_EVENTS]
        ],
        "receipt": None if batch.receipt is None else orjson.dumps(batch.receipt, option=orjson.OPT_INDENT_2).decode(),
        "carried": None if not batch.carried else orjson.dumps(batch.carried, option=orjson.OPT_INDENT_2).decode(),
        "policies": fields.POLICIES,
        "may_cancel": may and not batch.is_final,
        "may_rerun": may and batch.state in sources(Event.RERUN),
        "may_rerun_failed": may and can_resume(batch),
        "path": f"/api/batches/{batch.id}/",
    }


def can_resume(batch: Batch) -> bool:
    """Tell whether there is something to go on with: the rows are counted, and the parts that are done are there."""
    return batch.state in sources(Event.RESUME) and batch.rows_total is not None and batch.cleaned_at is None


def facts(batch: Batch, caller: Caller) -> list[tuple[str, str]]:
    """Return names and values of what is known about the batch."""
    threshold = "–" if batch.error_threshold is None else f"{batch.error_threshold:.4%}"
    known = [
        ("Model", f"{batch.model}:{batch.version}"),
        ("Input", batch.input["uri"]),
        ("Input format", str(batch.input.get("format", "auto"))),
        ("Output format", batch.output["format"]),
        ("Output place", batch.output.get("uri") or "the system's own storage"),
        ("Columns kept", ", ".join(batch.keep_columns) or "–"),
        ("Rows a chunk", f"{batch.chunk_rows:,}"),
        ("Chunks", f"{batch.chunks_done:,} of {batch.chunks_total:,}"),
        ("Retry policy", batch.retry_policy),
        ("Attempt", f"{batch.attempt}, at most {batch.max_attempts} by itself"),
        ("Rows that may fail", threshold),
        ("Deadline (UTC)", moment_text(batch.deadline)),
        ("Estimated end (UTC)", moment_text(batch.eta)),
        ("Submitted by", batch.submitted_by),
        ("Created (UTC)", moment_text(batch.created_at)),
        ("Started (UTC)", moment_text(batch.started_at)),
        ("Finished (UTC)", moment_text(batch.finished_at)),
        ("Ran", duration_text(batch.started_at, batch.finished_at)),
        ("Due (UTC)", moment_text(batch.due_at)),
        ("Model file", f"sha256 {batch.sha256[:12]}"),
    ]
    return [("Team", batch.team.name), *known] if caller.sees_all_teams else known


def chunk_rows(batch: Batch) -> list[dict[str, Any]]:
    """Return the first chunks, those that failed before the others."""
    order = Case(When(state="failed", then=Value(0)), When(state="open", then=Value(1)), default=Value(2))
    found = batch.chunks.defer("source").order_by(order, "number")[:MAX_CHUNKS]
    return [
        {
            "number": chunk.number,
            "rows": f"{chunk.first_row:,} to {chunk.first_row + chunk.rows - 1:,}",
            "label": {"type": CHUNK_COLOURS[chunk.state], "text": chunk.state},
            "attempt": chunk.attempt,
            "failed": f"{chunk.rows_failed:,}" if chunk.rows_failed else "–",
            "reason": chunk.reason,
            "job": chunk.job_id,
        }
        for chunk in found
    ]


def _steps(batch: Batch) -> list[Job]:
    """Return the jobs of the steps that are about the whole batch."""
    steps = Job.objects.filter(batch_id=batch.id).exclude(step="chunk").without_payload()
    return list(steps.order_by("-accepted_at", "-id")[:10])


def _files(batch: Batch) -> tuple[list[tuple[str, Stored]], str]:
    """Return the files that can be fetched, each with the end of its path, and why there are none."""
    if not batch.is_final:
        return [], ""
    try:
        found = [("output", files.output(batch))]
        errors = files.errors(batch)
    except NotThere:
        return [], "" if batch.state in (State.FAILED, State.CANCELLED) else "There is no output."
    except Removed as removed:
        return [], str(removed)
    return [*found, *([] if errors is None else [("errors", errors)])], ""
