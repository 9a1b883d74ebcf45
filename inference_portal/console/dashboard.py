"""The first page: what happened lately, and who is at work."""

from collections import Counter
from datetime import timedelta
from typing import Any

from django.urls import reverse
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.console.attention import dead_letter_count, parked_message_count
from inference_portal.console.job_rows import job_row
from inference_portal.console.state_labels import state_label
from inference_portal.jobs.models import Job, Worker
from inference_portal.jobs.states import State
from inference_portal.store import model_store

LATELY = timedelta(hours=24)
LAST_JOBS = 10
# Counting all of a busy day took 2.6 s for a million jobs.
COUNTED_JOBS = 20_000


def context(caller: Caller) -> dict[str, Any]:
    """Return what the dashboard shows to this caller."""
    # Of a batch its own page tells.
    jobs = Job.objects.visible_to(caller).requests()
    lately = jobs.filter(accepted_at__gte=timezone.now() - LATELY).order_by("-accepted_at")
    counts = Counter(lately.values_list("state", flat=True)[:COUNTED_JOBS])
    newest = jobs.without_payload().select_related("team").order_by("-accepted_at")
    workers = list(Worker.objects.alive())
    return {
        "counts": [{"state": s.value, "label": state_label(s), "count": counts[s.value]} for s in State],
        "counted_jobs": COUNTED_JOBS if counts.total() == COUNTED_JOBS else None,
        "jobs": [job_row(job) for job in newest[:LAST_JOBS]],
        "shows_team": caller.sees_all_teams,
        "may_submit": caller.role.allows(Role.SUBMITTER),
        "workers": len(workers),
        "processes": sum(worker.processes for worker in workers),
        "models": sum(map(len, model_store().snapshot().releases.values())),
        "waiting": _waiting() if caller.role.allows(Role.OPERATOR) else [],
        "problems": len(model_store().snapshot().problems),
    }


def _waiting() -> list[dict[str, str]]:
    """Return what waits for an operator, with where to see it."""
    return [
        {"text": text, "count": count, "url": reverse(f"admin:{route}"), "type": "" if count == "0" else "danger"}
        for text, count, route in (
            ("dead letters", dead_letter_count(), "console_deadletter_changelist"),
            ("parked messages", parked_message_count(), "jobs_parkedmessage_changelist"),
        )
    ]
