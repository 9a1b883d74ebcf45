"""A delivery that has ended is sent again because somebody asks for it: no new inference, the same event."""

from django.db.models import F
from django.utils import timezone

from inference_portal.deliveries.ledger import host_of
from inference_portal.deliveries.models import Delivery
from inference_portal.deliveries.states import DONE, Event, sources, target
from inference_portal.jobs import changes
from inference_portal.jobs.rerun import NotWaiting
from inference_portal.jobs.states import State


def redeliver(*, delivery: Delivery) -> Delivery:
    """Send it again, with three days of tries of its own. Raises NotWaiting with the reason why not."""
    if delivery.state not in sources(Event.REDELIVER):
        raise NotWaiting(f"The delivery is {delivery.state}; only one that has ended can be sent again.")
    if delivery.destination.startswith("endpoint:"):
        if delivery.endpoint is None:
            raise NotWaiting("Its endpoint was removed.")
        if not delivery.endpoint.enabled:
            raise NotWaiting("Its endpoint is turned off; turn it on first.")
    if delivery.job is not None and delivery.job.state == State.SUCCEEDED and delivery.job.result is None:
        raise NotWaiting("The job's result is no longer kept.")
    now = timezone.now()
    endpoint = delivery.endpoint
    # A webhook may have moved; a sink's place is in the courier's file.
    moved = {} if endpoint is None else {"url": endpoint.url, "host": host_of(endpoint.url)}
    again = Delivery.objects.filter(id=delivery.id, state__in=sorted(DONE), tries=delivery.tries)
    changed = again.update(
        state=target(Event.REDELIVER),
        due_at=now,
        begun_at=now,
        tries_before=F("tries"),
        finished_at=None,
        **moved,
    )
    if not changed:
        raise NotWaiting("Somebody else has sent it again meanwhile.")
    changes.notify(changes.DELIVER)
    delivery.refresh_from_db()
    return delivery
