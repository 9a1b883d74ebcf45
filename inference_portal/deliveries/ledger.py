"""Writes down what is to be delivered, in the very transaction in which it happens: never lost, never told of what
was rolled back. Called through `jobs.endings` and `batches.ending`."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from django.conf import settings
from django.db.models import Exists, OuterRef, Q

from inference_portal.batches.models import BatchEvent
from inference_portal.deliveries import events
from inference_portal.deliveries.models import SINK, Announcement, Delivery, Endpoint
from inference_portal.deliveries.sinks.choice import wants
from inference_portal.deliveries.states import OPEN
from inference_portal.jobs import changes
from inference_portal.jobs.models import Job

URL = "url"


def jobs_ended(job_ids: Sequence[UUID]) -> set[UUID]:
    """Write down what is to be told of jobs that have just ended. Returns those whose outputs will be delivered."""
    jobs = Job.objects.filter(id__in=job_ids, step="")
    if not settings.PUBLISH_EVENTS:
        listening = Endpoint.objects.filter(team_id=OuterRef("team_id"), enabled=True)
        jobs = jobs.filter(~Q(webhook="") | ~Q(sink="") | Exists(listening))
    found = list(jobs.order_by("id").values(*events.JOB_FIELDS))
    if not found:
        return set()
    told = [(job, events.of_job(job)) for job in found]
    announce([event for _, event in told])
    endpoints = _listening({job["team_id"] for job in found})
    made: list[Delivery | None] = []
    for job, event in told:
        fields = {"team_id": job["team_id"], "job_id": job["id"]}
        if job["webhook"]:
            made.append(_delivery(event, destination=URL, url=job["webhook"], **fields))
        if job["sink"] and wants(job["sink"], event["type"]):
            made.append(_to_sink(job["sink"], event, **fields))
        made += [_to_endpoint(endpoint, event, **fields) for endpoint in endpoints.get(job["team_id"], [])]
    return {delivery.job_id for delivery in _store(made) if delivery.job_id is not None}


def batch_told(told: BatchEvent) -> None:
    """Write down what is to be told of a batch."""
    event = events.of_batch(told)
    announce([event])
    endpoints = _listening({told.batch.team_id}).get(told.batch.team_id, [])
    _store([_to_endpoint(endpoint, event, team_id=endpoint.team_id) for endpoint in endpoints])


def announce(told: list[dict[str, Any]]) -> None:
    """Leave events for the exchange, unless there is none."""
    if settings.PUBLISH_EVENTS and told:
        Announcement.objects.create(events=orjson.dumps(told))


def deliver_to(endpoint: Endpoint, event: dict[str, Any]) -> Delivery:
    """Write down one delivery of its own, such as a test."""
    delivery = _delivery(
        event, destination=f"endpoint:{endpoint.id}", url=endpoint.url, endpoint=endpoint, team_id=endpoint.team_id
    )
    delivery.save(force_insert=True)
    changes.notify(changes.DELIVER)
    return delivery


def open_of_job() -> Exists:
    """Return the condition that something of a job is still on its way."""
    return Exists(Delivery.objects.filter(job=OuterRef("pk"), state__in=sorted(OPEN)))


def host_of(url: str) -> str:
    """Return an address's host and port, as its breaker is named."""
    parts = urlsplit(url)
    return f"{(parts.hostname or '')[:245]}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


def _listening(team_ids: set[int]) -> dict[int, list[Endpoint]]:
    found: dict[int, list[Endpoint]] = {}
    for endpoint in Endpoint.objects.filter(team_id__in=team_ids, enabled=True):
        found.setdefault(endpoint.team_id, []).append(endpoint)
    return found


def _to_endpoint(endpoint: Endpoint, event: dict[str, Any], **fields: Any) -> Delivery | None:
    if not endpoint.wants(event["type"]):
        return None
    return _delivery(event, destination=f"endpoint:{endpoint.id}", url=endpoint.url, endpoint=endpoint, **fields)


def _to_sink(name: str, event: dict[str, Any], **fields: Any) -> Delivery:
    destination = f"{SINK}{name}"
    return _delivery(event, destination=destination, url="", host=destination, **fields)


def _delivery(event: dict[str, Any], *, url: str, host: str = "", **fields: Any) -> Delivery:
    host = host or host_of(url)
    return Delivery(event_id=event["id"], event_type=event["type"], event=event, url=url, host=host, **fields)


def _store(made: list[Delivery | None]) -> list[Delivery]:
    wanted = [delivery for delivery in made if delivery is not None]
    if wanted:
        # Told twice it is written down once.
        Delivery.objects.bulk_create(wanted, ignore_conflicts=True)
        changes.notify(changes.DELIVER)
    return wanted
