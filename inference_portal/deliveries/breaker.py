"""A breaker for each host: a receiver that doesn't answer is left alone for a while, and holds up no other."""

from collections import Counter
from datetime import datetime, timedelta

from inference_portal.deliveries.models import Delivery, Host
from inference_portal.deliveries.retry import Answer
from inference_portal.deliveries.states import State

# So many failures in a row close it: for so long at first, twice as long with each failure after that.
FAILURES = 5
FIRST_SECONDS = 10.0
MOST_SECONDS = 600.0
# How many calls to one host may be under way.
CALLS_PER_HOST = 8


def closed_seconds(failures: int) -> float:
    """Return for how long a host is left alone after so many failures in a row."""
    if failures < FAILURES:
        return 0.0
    return min(MOST_SECONDS, FIRST_SECONDS * 2.0 ** min(failures - FAILURES, 10))


def room(now: datetime) -> tuple[set[str], dict[str, int]]:
    """Return the hosts where nothing may be sent now, and how many calls may begin to the others that are busy."""
    busy = Counter(Delivery.objects.filter(state=State.DELIVERING).values_list("host", flat=True))
    failing = dict(Host.objects.filter(failures__gte=FAILURES).values_list("name", "closed_until"))
    closed = {name for name, until in failing.items() if until is not None and until > now}
    most = {name: (1 if name in failing else CALLS_PER_HOST) - busy[name] for name in {*busy, *failing}}
    closed |= {name for name, left in most.items() if left <= 0}
    return closed, {name: left for name, left in most.items() if name not in closed}


def note(host: str, answer: Answer, now: datetime) -> None:
    """Remember how a call went."""
    if answer.is_final:
        return
    if not answer.is_down:
        Host.objects.filter(name=host).delete()
        return
    found, _ = Host.objects.select_for_update().get_or_create(name=host)
    if found.closed_until is not None and found.closed_until > now:
        # Of the calls that were under way when it was closed.
        return
    found.failures += 1
    seconds = closed_seconds(found.failures)
    found.closed_until = now + timedelta(seconds=seconds) if seconds else None
    found.save()
