"""What a job's page shows."""

from dataclasses import dataclass
from typing import Any

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.console.state_labels import state_label
from inference_portal.console.tables import input_table, job_release, output_table
from inference_portal.console.times import duration_text, moment_text
from inference_portal.errors import JOB_PROBLEMS, PROBLEMS
from inference_portal.jobs.models import Attempt, Job, Worker
from inference_portal.jobs.states import State
from workers.contract import ErrorCode

# A longer one is fetched from its path.
MAX_RAW_CHARACTERS = 20_000


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
    raw = bytes(job.result or b"").decode()
    return {
        "job": job,
        "label": state_label(job.state),
        "facts": _facts(job, caller),
        "trouble": trouble(job),
        "retry": _retry(job),
        "unserved": not job.is_final and not _is_served(job),
        "inputs": input_table(job, release),
        "outputs": output_table(job, release) if job.result is not None else None,
        "release_known": release is not None,
        "raw": raw if len(raw) <= MAX_RAW_CHARACTERS else None,
        "attempts": [_attempt(attempt) for attempt in job.all_attempts],
        "shows_traceback": caller.role.allows(Role.OPERATOR),
        "may_cancel": not job.is_final and caller.role.allows(Role.SUBMITTER),
        "status_path": job.status_path,
        "result_path": job.result_path,
    }


def trouble(job: Job) -> Trouble | None:
    """Return why the job ended without a result; None while it is open and when it succeeded."""
    match job.state:
        case State.CANCELLED:
            slug = "cancelled"
        case State.DEAD_LETTERED:
            slug = "dead-lettered"
        case State.FAILED:
            slug = JOB_PROBLEMS.get(ErrorCode(job.error_code), "model-error")
        case _:
            return None
    kind = PROBLEMS[slug]
    return Trouble(slug, kind.title, kind.explanation, job.error_message)


def _facts(job: Job, caller: Caller) -> list[tuple[str, str]]:
    facts = [
        ("Model", f"{job.model}:{job.version}"),
        ("Rows", f"{job.rows:,}"),
        ("Attempt", str(job.attempt)),
        ("Submitted by", job.submitted_by),
        ("Accepted (UTC)", moment_text(job.accepted_at)),
        ("Started (UTC)", moment_text(job.started_at)),
        ("Finished (UTC)", moment_text(job.finished_at)),
        ("Waited", duration_text(job.accepted_at, job.started_at)),
        ("Ran", duration_text(job.started_at, job.finished_at)),
        ("Worker", job.worker or "–"),
        ("Device", job.device or "–"),
        ("Model file", f"sha256 {job.sha256[:12]}"),
    ]
    return [("Team", job.team.name), *facts] if caller.sees_all_teams else facts


def _retry(job: Job) -> str:
    if job.state != State.RETRYING:
        return ""
    return (
        f"Attempt {job.attempt - 1} failed ({job.error_code}: {job.error_message}). Attempt {job.attempt} starts at "
        f"{moment_text(job.not_before)} UTC or soon after."
    )


def _is_served(job: Job) -> bool:
    return any(f"{job.model}:{job.version}" in worker.serves for worker in Worker.objects.alive())


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "outcome": attempt.code.replace("_", "-") or "running",
        "message": attempt.message,
        "traceback": attempt.traceback,
        "worker": attempt.worker or "–",
        "device": attempt.device or "–",
        "started": moment_text(attempt.started_at),
        "finished": moment_text(attempt.finished_at),
        "ran": duration_text(attempt.started_at, attempt.finished_at),
    }
