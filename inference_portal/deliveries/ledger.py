"""Writes down what is to be delivered, in the very transaction in which it happens: never lost, never told of what
was rolled back. Called through `jobs.endings` and `batches.ending`."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import orjson
from django.conf import settings
from django.db import connection
from django.db.models import Exists, OuterRef

from inference_portal.batches.models import BatchEvent
from inference_portal.deliveries import events
from inference_portal.deliveries.events import EndedJob
from inference_portal.deliveries.models import SINK, Delivery, Endpoint
from inference_portal.deliveries.sinks.choice import wants
from inference_portal.deliveries.states import OPEN
from inference_portal.jobs import changes, sql

URL = "url"
# For every bundle, so without Django's queries (see `jobs.sql`). Whether an endpoint may hear of it comes along: mostly
# none does, and then there is nothing more to ask.
_COLUMNS = ", ".join("team.name" if name == "team" else f"job.{name}" for name in EndedJob._fields)
_ENDED = f"""
    SELECT {_COLUMNS}, EXISTS (SELECT 1 FROM deliveries_endpoint WHERE team_id = job.team_id AND enabled)
    FROM jobs_job AS job JOIN accounts_team AS team ON team.id = job.team_id
    WHERE job.id IN ({{}}) AND job.step = '' ORDER BY job.id
"""  # noqa: S608
_ANNOUNCE = "INSERT INTO deliveries_announcement (events) VALUES (%s)"


def jobs_ended(job_ids: Sequence[UUID]) -> set[UUID]:
    """Write down what is to be told of jobs that have just ended. Returns those whose outputs will be delivered."""
    ended = _ended(job_ids)
    heard = [job for job, listening in ended if settings.PUBLISH_EVENTS or listening or job.webhook or job.sink]
    if not heard:
        return set()
    told = [(job, events.of_job(job)) for job in heard]
    announce([event for _, event in told])
    endpoints = _listening({job.team_id for job, listening in ended if listening})
    made: list[Delivery | None] = []
    for job, event in told:
        fields: dict[str, Any] = {"team_id": job.team_id, "job_id": job.id}
        if job.webhook:
            made.append(_delivery(event, destination=URL, url=job.webhook, **fields))
        if job.sink and wants(job.sink, event["type"]):
            made.append(_to_sink(job.sink, event, **fields))
        made += [_to_endpoint(endpoint, event, **fields) for endpoint in endpoints.get(job.team_id, [])]
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
        with connection.cursor() as cursor:
            cursor.execute(_ANNOUNCE, [orjson.dumps(told)])


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


def _ended(job_ids: Sequence[UUID]) -> list[tuple[EndedJob, bool]]:
    """Return those of the jobs that are no steps of batches, by their ids, each with whether an endpoint may hear."""
    with connection.cursor() as cursor:
        cursor.execute(_ENDED.format(sql.places(job_ids)), sql.keys(job_ids))
        found = cursor.fetchall()
    return [
        (EndedJob(sql.as_uuid(key), sql.as_moment(accepted), sql.as_moment(finished), bool(keeps), *rest), bool(heard))
        for key, accepted, finished, keeps, *rest, heard in found
    ]


def _listening(team_ids: set[int]) -> dict[int, list[Endpoint]]:
    found: dict[int, list[Endpoint]] = {}
    if not team_ids:
        return found
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
