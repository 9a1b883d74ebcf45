"""What a team does with its endpoints, and who turns them off."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.deliveries import events, ledger
from inference_portal.deliveries.addresses import Forbidden, check_url
from inference_portal.deliveries.models import Delivery, Endpoint
from inference_portal.deliveries.models.endpoint import new_secret
from inference_portal.deliveries.states import WAITING, Event, target
from workers.formats import Fault, Invalid, escape, shown
from workers.schema import MAX_FAULTS

FIELDS = ("url", "events", "enabled")
# So long the key before still signs, beside the new one.
ROTATION = timedelta(days=1)
MAX_ENDPOINTS = 50


def endpoint_new(*, data: dict[str, Any], caller: Caller) -> Endpoint:
    """Register an endpoint of the caller's team. Raises Invalid with the fields."""
    if "url" not in data:
        raise Invalid(Fault("/url", "expected a URL"))
    fields = _read(data)
    if Endpoint.objects.filter(team_id=caller.team_id).count() >= MAX_ENDPOINTS:
        raise Invalid(Fault("", f"a team may have {MAX_ENDPOINTS} endpoints"))
    return Endpoint.objects.create(team_id=caller.team_id, submitted_by=caller.name, **fields)


def endpoint_change(*, endpoint: Endpoint, data: dict[str, Any]) -> Endpoint:
    """Change what is named. What was on its way to an endpoint that is turned off, or moves, isn't sent any more.

    Raises Invalid with the fields.
    """
    if not data:
        raise Invalid(Fault("", f"expected some of {', '.join(FIELDS)}"))
    fields = _read(data)
    if "enabled" in fields:
        fields["disabled_reason"] = ""
    with transaction.atomic():
        Endpoint.objects.filter(id=endpoint.id).update(**fields)
        if fields.get("enabled") is False or fields.get("url", endpoint.url) != endpoint.url:
            _stop([endpoint.id])
    endpoint.refresh_from_db()
    return endpoint


def endpoint_delete(*, endpoint: Endpoint) -> None:
    """Remove it; the record of what was sent there stays."""
    with transaction.atomic():
        _stop([endpoint.id])
        Endpoint.objects.filter(id=endpoint.id).delete()


def endpoint_rotate(*, endpoint: Endpoint) -> Endpoint:
    """Give it a new key; for a day the one before signs, too."""
    until = timezone.now() + ROTATION
    # Guarded by the key that was read: of two at once the second gives up the first one's key, which nobody has seen.
    Endpoint.objects.filter(id=endpoint.id, secret=endpoint.secret).update(
        secret=new_secret(), old_secret=endpoint.secret, old_secret_until=until
    )
    endpoint.refresh_from_db()
    return endpoint


def endpoint_test(*, endpoint: Endpoint) -> Delivery:
    """Send it an event that means nothing, as any other: signed, tried again, shown in the list."""
    return ledger.deliver_to(endpoint, events.of_test(uuid4(), endpoint.id, endpoint.team.name, timezone.now()))


def endpoint_disable(endpoints: QuerySet[Endpoint], reason: str) -> None:
    """Turn them off and say why, in the caller's transaction."""
    ids = list(endpoints.filter(enabled=True).values_list("id", flat=True))
    if ids:
        Endpoint.objects.filter(id__in=ids).update(enabled=False, disabled_reason=reason)
        _stop(ids)


def _stop(ids: list[UUID]) -> None:
    """End what waits to be sent there. What is being sent right now ends by itself."""
    Delivery.objects.filter(endpoint_id__in=ids, state__in=sorted(WAITING)).update(
        state=target(Event.DISABLE), due_at=None, finished_at=timezone.now(), error="the endpoint was turned off"
    )


def _read(data: dict[str, Any]) -> dict[str, Any]:
    """Return the fields, checked. Raises Invalid."""
    faults = [Fault(f"/{escape(shown(name))}", "there is no such field") for name in sorted(data.keys() - set(FIELDS))]
    if "url" in data:
        try:
            check_url(data["url"] if isinstance(data["url"], str) else "")
        except Forbidden as error:
            faults.append(Fault("/url", str(error)))
    if not isinstance(data.get("enabled", True), bool):
        faults.append(Fault("/enabled", "expected true or false"))
    faults += _event_faults(data.get("events", []))
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    return dict(data)


def _event_faults(wanted: Any) -> list[Fault]:
    if not isinstance(wanted, list) or len(wanted) > len(events.TYPES):
        return [Fault("/events", "expected a list of event types; an empty one means all")]
    return [
        Fault(f"/events/{i}", "there is no such event; a * at the end stands for the rest")
        for i, each in enumerate(wanted)
        if not isinstance(each, str) or not any(events.is_wanted(kind, [each]) for kind in events.TYPES)
    ]
