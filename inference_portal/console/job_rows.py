"""One line about a job, for the dashboard's list."""

from typing import Any

from django.urls import reverse

from inference_portal.console.state_labels import state_label
from inference_portal.console.times import duration_text, moment_text
from inference_portal.jobs.models import Job


def job_row(job: Job) -> dict[str, Any]:
    """Return the texts of a line; the job needs its team, not its payload."""
    return {
        "url": reverse("admin:jobs_job_change", args=[job.id]),
        "id": str(job.id),
        "label": state_label(job.state),
        "release": f"{job.model}:{job.version}",
        "rows": job.rows,
        "team": job.team.name,
        "submitted_by": job.submitted_by,
        "accepted": moment_text(job.accepted_at),
        "duration": duration_text(job.accepted_at, job.finished_at),
    }
