"""Due deliveries, taken by one courier until their lease is over; what a lost courier had in hand comes back."""

from collections import Counter
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, F, OuterRef, Q
from django.utils import timezone

from inference_portal.deliveries import breaker, outcomes
from inference_portal.deliveries.endpoints import endpoint_disable
from inference_portal.deliveries.models import Delivery, Endpoint, Host
from inference_portal.deliveries.retry import GIVE_UP_AFTER
from inference_portal.deliveries.states import WAITING, Event, State, target
from inference_portal.jobs.retention import record_limit
from workers.failpoints import failpoint

# Beyond the time that a call may take.
LEASE_MARGIN_SECONDS = 10.0
SWEEP_STEP = 500
DEAF = "the receiver answered nobody for three days"


def claim(most: int) -> list[Delivery]:
    """Take up to so many due deliveries, those that are due longest first, no more of a host than it may have now."""
    now = timezone.now()
    due = Delivery.objects.filter(state__in=sorted(WAITING), due_at__lte=now)
    if most <= 0 or not due.exists():
        return []
    lease = now + timedelta(seconds=settings.WEBHOOK_TIMEOUT_SECONDS + LEASE_MARGIN_SECONDS)
    taken: list[UUID] = []
    with transaction.atomic():
        closed, left = breaker.room(now)
        while len(taken) < most:
            wanted = most - len(taken)
            found = due.exclude(host__in=closed).exclude(id__in=taken).order_by("due_at").not_locked()
            window = list(found.values_list("id", "host")[:wanted])
            of_host: Counter[str] = Counter()
            for delivery_id, host in window:
                of_host[host] += 1
                if of_host[host] <= left.get(host, breaker.CALLS_PER_HOST):
                    taken.append(delivery_id)
            left |= {host: left.get(host, breaker.CALLS_PER_HOST) - number for host, number in of_host.items()}
            full = {host for host, number in left.items() if number <= 0} - closed
            closed |= full
            if len(window) < wanted or not full:
                break
        Delivery.objects.filter(id__in=taken).update(
            state=target(Event.CLAIM), due_at=None, lease_until=lease, tries=F("tries") + 1
        )
        failpoint("courier.claiming")
    failpoint("courier.after_claim")
    return list(Delivery.objects.filter(id__in=taken).select_related("job", "endpoint").defer("job__input"))


def give_up_old() -> int:
    """Give up what has waited for too long for a host that answers nobody. Returns their number.

    One call at a time tries such a host: with many deliveries each alone would wait for ever for its own.
    """
    now = timezone.now()
    deaf = Host.objects.filter(failures__gte=breaker.FAILURES).values("name")
    old = Delivery.objects.filter(
        state__in=sorted(WAITING), host__in=deaf, begun_at__lt=now - timedelta(seconds=GIVE_UP_AFTER)
    )
    with transaction.atomic():
        ids = list(old.order_by("begun_at").not_locked().values_list("id", flat=True)[:SWEEP_STEP])
        given_up = Delivery.objects.filter(id__in=ids)
        given_up.update(state=target(Event.GIVE_UP), due_at=None, finished_at=now, error=DEAF)
        waited = given_up.filter(endpoint=OuterRef("pk"), begun_at__gt=OuterRef("succeeded_at"))
        never = given_up.filter(endpoint=OuterRef("pk"))
        endpoint_disable(Endpoint.objects.filter(Q(Exists(never), succeeded_at=None) | Exists(waited)), DEAF)
    return len(ids)


def forget() -> int:
    """Delete the old records that go with no job. Returns their number."""
    before = record_limit(timezone.now())
    if before is None:
        return 0
    old = Delivery.objects.filter(job=None, finished_at__lt=before).values_list("id", flat=True)[:SWEEP_STEP]
    return Delivery.objects.filter(id__in=list(old)).delete()[0]


def bring_back() -> int:
    """Let deliveries be tried again whose courier was lost: nobody knows whether they arrived. Returns their number."""
    over = Delivery.objects.filter(state=State.DELIVERING, lease_until__lt=timezone.now()).order_by("lease_until")
    return sum(outcomes.lost(delivery) for delivery in over[:SWEEP_STEP])
