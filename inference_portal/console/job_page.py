"""What a job's page shows."""

from dataclasses import dataclass
from typing import Any

import orjson

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.console.audit import audit_rows
from inference_portal.console.delivery_rows import delivery_rows
from inference_portal.console.state_labels import state_label
from inference_portal.console.tables import input_table, output_table
from inference_portal.console.times import duration_text, moment_text
from inference_portal.errors import JOB_PROBLEMS, PROBLEMS
from inference_portal.jobs.models import Job, Worker
from inference_portal.jobs.rerun import can_be_rerun
from inference_portal.jobs.states import State
from inference_portal.jobs.stored_input import job_release

# A longer one is fetched from its path.
MAX_RAW_CHARACTERS = 20_000
MAX_DELIVERIES = 100


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why there is no result: in plain words, and what was reported."""

    slug: str
    title: str
    explanation: str
    detail: str


def context(job: Job, caller: Caller) -> dict[str, Any]:
    """Return what the page shows of a job that exists for this caller."""
    release = job_release(job)
    is_operator = caller.role.allows(Role.OPERATOR)
    raw = bytes(job.result or b"").decode()
    return {
        "job": job,
        "label": state_label(job.state),
        "facts": facts(job, caller),
        "trouble": trouble(job),
        "retry": _retry(job),
        "unserved": not job.step and not job.is_final and not _is_served(job),
        "inputs": input_table(job),
        "outputs": output_table(job, release) if job.result is not None and not job.step else None,
        # What a step has to do, and what it says that it did.
        "work": step_text(bytes(job.input)) if job.step else None,
        "done": step_text(bytes(job.result or b"")) if job.step else None,
        "release_known": release is not None,
        "raw": raw if len(raw) <= MAX_RAW_CHARACTERS else None,
        "attempts": attempt_rows(job),
        "shows_traceback": is_operator,
        "is_dead_letter": is_operator and job.state == State.DEAD_LETTERED,
        "deliveries": delivery_rows(job.deliveries.order_by("-created_at")[:MAX_DELIVERIES]),
        "audit": audit_rows(job.id) if is_operator else [],
        "may_cancel": not job.step and not job.is_final and caller.role.allows(Role.SUBMITTER),
        "may_rerun": not job.step and can_be_rerun(job) and caller.role.allows(Role.SUBMITTER),
        "status_path": job.status_path,
        "result_path": job.result_path,
    }


def step_text(text: bytes) -> str | None:
    """Return a step's JSON for people, its beginning; None for nothing."""
    if not text:
        return None
    try:
        shown = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    except orjson.JSONDecodeError:
        shown = text.decode(errors="replace")
    return shown if len(shown) <= MAX_RAW_CHARACTERS else f"{shown[:MAX_RAW_CHARACTERS]}…"


def trouble(job: Job) -> Trouble | None:
    """Return why there is no result (any more); None while the job is open and when it has one."""
    match job.state:
        case State.SUCCEEDED if not job.keeps_result:
            slug = "result-not-kept"
        case State.SUCCEEDED if job.purged_at is not None:
            slug = "result-purged"
        case State.CANCELLED:
            slug = "cancelled"
        case State.EXPIRED:
            slug = "expired"
        case State.DEAD_LETTERED:
            slug = "dead-lettered"
        case State.FAILED:
            slug = JOB_PROBLEMS.get(job.error_code, "model-error")
        case _:
            return None
    kind = PROBLEMS[slug]
    return Trouble(slug, kind.title, kind.explanation, job.error_message)


def facts(job: Job, caller: Caller) -> list[tuple[str, str]]:
    """Return names and values of what is known about the job."""
    known = [
        ("Model", f"{job.model}:{job.version}"),
        ("Rows", f"{job.rows:,}"),
        ("Attempt", str(job.attempt)),
        ("Tried alone", "yes" if job.isolated else "no"),
        ("Submitted by", job.submitted_by),
        ("Labels", ", ".join(job.label_list) or "–"),
        ("Idempotency key", job.idempotency_key or "–"),
        ("Priority", job.get_priority_display()),
        ("Ordering key", job.ordering_key or "–"),
        ("Sink", job.sink or "–"),
        ("Accepted (UTC)", moment_text(job.accepted_at)),
        ("Started (UTC)", moment_text(job.started_at)),
        ("Finished (UTC)", moment_text(job.finished_at)),
        ("Waited", duration_text(job.queued_at, job.started_at)),
        ("Ran", duration_text(job.started_at, job.finished_at)),
        ("Worker", job.worker or "–"),
        ("Host", job.host or "–"),
        ("Device", job.device or "–"),
        ("Libraries", job.libraries or "–"),
        ("Model file", f"sha256 {job.sha256[:12]}"),
    ]
    if job.step:
        known.insert(0, ("Step", f"{job.step} of batch {job.batch_id}"))
    return [("Team", job.team.name), *known] if caller.sees_all_teams else known


def _retry(job: Job) -> str:
    if job.state != State.RETRYING:
        return ""
    return (
        f"Attempt {job.attempt - 1} failed ({job.error_code}: {job.error_message}). Attempt {job.attempt} starts at "
        f"{moment_text(job.not_before)} UTC or soon after."
    )


def _is_served(job: Job) -> bool:
    return any(f"{job.model}:{job.version}" in worker.serves for worker in Worker.objects.alive())


def attempt_rows(job: Job) -> list[dict[str, Any]]:
    """Return the texts of the table of attempts."""
    return [
        {
            "number": attempt.number,
            "outcome": attempt.code.replace("_", "-") or "running",
            "message": attempt.message,
            "traceback": attempt.traceback,
            "worker": attempt.worker or "–",
            "host": attempt.host or "–",
            "device": attempt.device or "–",
            "started": moment_text(attempt.started_at),
            "finished": moment_text(attempt.finished_at),
            "ran": duration_text(attempt.started_at, attempt.finished_at),
        }
        for attempt in job.all_attempts
    ]
