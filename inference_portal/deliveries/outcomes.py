"""What came of a try, written down: guarded, so that a courier that was too slow changes nothing."""

import random
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from inference_portal.deliveries import breaker
from inference_portal.deliveries.endpoints import endpoint_disable
from inference_portal.deliveries.models import Delivery, DeliveryAttempt, Endpoint
from inference_portal.deliveries.retry import Answer, Decision, decide
from inference_portal.deliveries.states import Event, State, sources, target
from inference_portal.jobs.models import Job
from workers.failpoints import failpoint


def record(delivery: Delivery, answer: Answer) -> bool:
    """Write down one try and what follows. False: somebody else has the delivery by now."""
    now = timezone.now()
    decision = _decide(delivery, answer, now)
    with transaction.atomic():
        if not _move(delivery, decision, status=answer.status, error=answer.error):
            return False
        DeliveryAttempt.objects.create(
            delivery=delivery,
            number=delivery.tries,
            at=now - timedelta(seconds=answer.seconds),
            seconds=answer.seconds,
            status=answer.status,
            error=answer.error,
            excerpt=answer.excerpt,
        )
        breaker.note(delivery.host, answer, now)
        if delivery.endpoint is not None:
            _note_endpoint(delivery.endpoint, delivery, answer, decision)
        if decision.event is Event.SUCCEED:
            forget_result(delivery)
        failpoint("courier.before_commit")
    return True


def lost(delivery: Delivery) -> bool:
    """Write down that nobody knows what came of a try, as its courier is gone. It counts, as one that failed: what ends
    every courier that tries it mustn't do so for ever. False: as above."""
    now = timezone.now()
    answer = Answer(error="the courier was lost meanwhile")
    with transaction.atomic():
        moved = _move(delivery, _decide(delivery, answer, now), status=None, error=answer.error)
        if moved:
            DeliveryAttempt.objects.create(delivery=delivery, number=delivery.tries, at=now, error=answer.error)
    return moved


def disabled(delivery: Delivery) -> bool:
    """Write down that a claimed delivery isn't tried: its endpoint was turned off. False: as above."""
    return _move(delivery, Decision(Event.DISABLE), status=None, error="the endpoint was turned off")


def forget_result(delivery: Delivery) -> None:
    """Remove the outputs of a job that was fire and forget, once each of its deliveries has arrived.

    In the caller's transaction, with the job's row locked: of two that end at once the second sees the first.
    """
    if delivery.job is None or delivery.job.keeps_result:
        return
    job_id = delivery.job.id
    job = Job.objects.filter(id=job_id)
    list(job.select_for_update().values_list("id"))
    if not Delivery.objects.filter(job_id=job_id).exclude(state=State.DELIVERED).exists():
        job.update(result=None)


def _decide(delivery: Delivery, answer: Answer, now: datetime) -> Decision:
    return decide(
        answer,
        tries=delivery.tries - delivery.tries_before,
        age=(now - delivery.begun_at).total_seconds(),
        jitter=random.random(),  # noqa: S311
    )


def _move(delivery: Delivery, decision: Decision, **told: Any) -> bool:
    now = timezone.now()
    fields: dict[str, Any] = {"state": target(decision.event), "lease_until": None, **told}
    if decision.event is Event.RETRY:
        fields["due_at"] = now + timedelta(seconds=decision.delay)
    else:
        fields["finished_at"] = now
    same = Delivery.objects.filter(id=delivery.id, tries=delivery.tries, state=State.DELIVERING)
    return delivery.state in sources(decision.event) and same.update(**fields) > 0


def _note_endpoint(told: Endpoint, delivery: Delivery, answer: Answer, decision: Decision) -> None:
    """Remember a success; turn off what wants no more, or took nothing for as long as this was tried."""
    endpoint = Endpoint.objects.filter(id=told.id, url=delivery.url)
    if answer.is_success:
        endpoint.update(succeeded_at=timezone.now())
    elif decision.disables:
        endpoint_disable(endpoint, "it answered 410 Gone")
    elif decision.event is Event.GIVE_UP and not answer.is_final:
        deaf = endpoint.exclude(succeeded_at__gte=delivery.begun_at)
        endpoint_disable(deaf, f"it took nothing for three days; at last: {answer.error}"[:255])
