"""What is sent: the event with the job's outputs, signed as Standard Webhooks has it."""

from dataclasses import dataclass
from datetime import UTC, datetime

import orjson
from django.conf import settings
from standardwebhooks import Webhook

from inference_portal.deliveries.models import Delivery, TeamSecret
from inference_portal.deliveries.models.endpoint import new_secret
from inference_portal.jobs.states import State

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Letter:
    """One call, ready to be made."""

    url: str
    headers: dict[str, str]
    body: bytes


def letter(delivery: Delivery) -> Letter:
    """Return what to send for a delivery; its job with the result and its endpoint are read with it."""
    sent = body(delivery)
    return Letter(delivery.url, headers(delivery.event_id, sent, _keys(delivery)), sent)


def body(delivery: Delivery) -> bytes:
    """Return the event as it is sent, with the outputs of a job that has succeeded."""
    return orjson.dumps(_event(delivery))


def headers(event_id: str, body: bytes, keys: list[str]) -> dict[str, str]:
    """Return the headers of a call, with a signature by each key."""
    now = datetime.now(UTC)
    signatures = [Webhook(key).sign(event_id, now, body.decode()) for key in keys]
    return {
        "Content-Type": CONTENT_TYPE,
        "webhook-id": event_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }


def team_secret(team_id: int) -> str:
    """Return the team's key for addresses that a single request names, made on first use."""
    return TeamSecret.objects.get_or_create(team_id=team_id)[0].secret


def new_team_secret(team_id: int) -> str:
    """Replace the team's key. What waits to be sent is signed with the new one."""
    return TeamSecret.objects.update_or_create(team_id=team_id, defaults={"secret": new_secret()})[0].secret


def _keys(delivery: Delivery) -> list[str]:
    return [team_secret(delivery.team_id)] if delivery.endpoint is None else delivery.endpoint.keys


def _event(delivery: Delivery) -> dict[str, object]:
    event = dict(delivery.event)
    job = delivery.job
    # A success is never undone, so this is still the result of that attempt.
    if job is not None and event["data"]["state"] == State.SUCCEEDED:
        fits = job.result is not None and (not job.keeps_result or len(job.result) <= settings.WEBHOOK_RESULT_BYTES)
        outputs = orjson.Fragment(bytes(job.result)) if fits and job.result is not None else None
        event["data"] = event["data"] | {"outputs": outputs}
    return event
