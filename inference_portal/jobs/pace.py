"""How long jobs take now, measured, so that clients are told when it's worth asking again."""

import math
import statistics
import threading
from datetime import timedelta

from cachetools import TTLCache
from django.utils import timezone

from inference_portal.jobs.models import Job

# What is measured: the last so many jobs that ended, if they did so lately.
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
    """Return how many seconds the model's jobs took from acceptance to end, 0 if none ended lately."""
    with _lock:
        known = _medians.get(model)
    if known is not None:
        return known
    ended = Job.objects.ended_since(timezone.now() - LATELY)
    times = ended.order_by("-finished_at").values_list("model", "queued_at", "finished_at")[:SAMPLE]
    seconds = [(finished - queued).total_seconds() for of, queued, finished in times if of == model and finished]
    median = statistics.median(seconds) if seconds else 0.0
    with _lock:
        _medians[model] = median
    return median
