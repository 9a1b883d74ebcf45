"""How long jobs take now, measured, so that clients are told when it's worth asking again."""

import math
import statistics
import threading
from datetime import timedelta

from cachetools import TTLCache
from django.utils import timezone

from inference_portal.jobs.models import Job, JobQuerySet
from inference_portal.jobs.states import State

# What is measured: the last so many of a model's jobs that succeeded, if they did so lately.
SAMPLE = 50
LATELY = timedelta(minutes=5)
LOOK_SECONDS = 5.0
# Seconds.
SOONEST, LATEST = 1, 60

_medians: TTLCache[str, float] = TTLCache(maxsize=1_000, ttl=LOOK_SECONDS)
_lock = threading.Lock()


def ask_again(job: Job) -> int:
    """Return in how many seconds it's worth asking for an open job again: when half of its kind would have ended.

    For one that already takes longer than those, in a tenth of the time that it has taken.
    """
    taken = (timezone.now() - job.queued_at).total_seconds()
    left = _median(job.model) - taken
    return min(max(math.ceil(left if left > 0 else taken / 10), SOONEST), LATEST)


def _median(model: str) -> float:
    """Return how many seconds the model's jobs took from acceptance to success, 0 if none succeeded lately."""
    with _lock:
        known = _medians.get(model)
    if known is not None:
        return known
    times = _lately(model).values_list("queued_at", "finished_at")[:SAMPLE]
    seconds = [(finished - queued).total_seconds() for queued, finished in times if finished]
    median = statistics.median(seconds) if seconds else 0.0
    with _lock:
        _medians[model] = median
    return median


def _lately(model: str) -> JobQuerySet:
    """Return the model's jobs that succeeded lately, the last first: through the index `job_pace`."""
    done = Job.objects.requests().filter(model=model, state=State.SUCCEEDED.value, purged_at=None)
    return done.filter(finished_at__gte=timezone.now() - LATELY).order_by("-finished_at")
