"""Names that are locked after failed logins; django-axes counts the failures, for each name and address."""

from datetime import timedelta
from math import ceil
from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.db.models import Max
from django.utils import timezone


def lock_time(request: Any = None) -> timedelta:
    """Return how long a lock lasts (called by django-axes too, settings.AXES_COOLOFF_TIME)."""
    return timedelta(minutes=settings.LOGIN_LOCK_MINUTES)


def seconds_locked(username: str, address: str) -> int:
    """Return how long the name stays locked for this address, 1 at least; the lock runs from the last failure."""
    failures = AccessAttempt.objects.filter(username=username, ip_address=address)
    last = failures.aggregate(last=Max("attempt_time"))["last"] or timezone.now()
    left = last + lock_time() - timezone.now()
    return max(1, ceil(left.total_seconds()))


def unlock(username: str) -> bool:
    """Forget the name's failures, from everywhere; tell whether there were any."""
    count, _ = AccessAttempt.objects.filter(username=username).delete()
    return bool(count)
