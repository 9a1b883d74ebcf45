"""Webhooks and deliveries as tests need them."""

from uuid import uuid4

from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.deliveries import events
from inference_portal.deliveries.models import Delivery, Endpoint
from inference_portal.deliveries.states import State

URL = "https://receiver.example/hook"


def make_endpoint(team: Team, url: str = URL) -> Endpoint:
    """Register an endpoint."""
    return Endpoint.objects.create(team=team, submitted_by="test", url=url)


def make_delivery(team: Team, state: State = State.FAILED) -> Delivery:
    """Store a delivery to an endpoint that has ended."""
    endpoint = make_endpoint(team)
    event = events.of_test(uuid4(), endpoint.id, team.name, timezone.now())
    return Delivery.objects.create(
        team=team,
        event_id=event["id"],
        event_type=event["type"],
        event=event,
        destination=f"endpoint:{endpoint.id}",
        endpoint=endpoint,
        url=endpoint.url,
        host="receiver.example:443",
        state=state,
        due_at=None,
        finished_at=timezone.now(),
    )
