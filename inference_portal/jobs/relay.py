"""Relays: a request goes straight to the model's container, its answer straight back. Recorded, never repeated by us.

The row is written before the container is called, so that a repeat of the request meets it whatever happens. If this
process dies meanwhile, nobody knows the answer: the sweep ends the job as failed, and nothing is sent again.
"""

import base64
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import orjson
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from inference_portal.jobs.models import RELAY, Job
from inference_portal.jobs.pool import let_go
from inference_portal.jobs.services import announce_final, job_accept, job_transition
from inference_portal.jobs.states import Event, State
from inference_portal.jobs.waiting import NoPlace
from workers import container_http
from workers.container_http import ContainerError, ContainerUnavailable, Reply
from workers.contract import ErrorCode
from workers.template.container import Container

# Of the container's answer, which is kept in the job's row.
MOST_BYTES = 8 * 1024 * 1024
_CODES = {ContainerUnavailable: ErrorCode.CONTAINER_UNAVAILABLE, ContainerError: ErrorCode.CONTAINER_ERROR}


class Places:
    """How many relays one portal process may have under way: each holds a thread."""

    def __init__(self, places: int) -> None:
        self.places = places
        self._free = threading.BoundedSemaphore(places)
        self._lock = threading.Lock()
        self.taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place. Raises NoPlace."""
        if not self._free.acquire(blocking=False):
            raise NoPlace
        with self._lock:
            self.taken += 1
        try:
            yield
        finally:
            with self._lock:
                self.taken -= 1
            self._free.release()


# A wrong setting is reported by the check inference.E002.
places = Places(max(0, settings.MAX_RELAYS))


class Relayed(NamedTuple):
    """A container's answer as it is kept with the job."""

    status: int
    content_type: str
    body: bytes


def relay(*, job: Job, container: Container, body: bytes, headers: Mapping[str, str]) -> Relayed:
    """Store the job, call the container once, and store its answer; `headers` are what goes along of the client's.

    A relay succeeds when the container answers, whatever it says. Raises NoPlace and what `job_accept` raises, before
    anything is sent; ContainerUnavailable or ContainerError, with which the job has failed.
    """
    with places.place():
        job.pool, job.state = RELAY, State.RUNNING
        job.started_at = now = timezone.now()
        job.lease_until = now + timedelta(seconds=settings.LEASE_SECONDS + container.timeout_seconds)
        job.sent_at = now
        job.host = socket.gethostname()
        job_accept(job=job)
        let_go()
        sent = {"Content-Type": "application/json"} | dict(headers) | container.headers
        sent |= {"X-Inference-Id": str(job.id), "X-Inference-Attempt": str(job.attempt)}
        try:
            reply = _call(container, body, sent)
        except (ContainerUnavailable, ContainerError) as error:
            _end(job, Event.FAIL, error_code=_CODES[type(error)], error_message=str(error))
            raise
        relayed = Relayed(reply.status, reply.content_type, reply.body)
        _end(job, Event.SUCCEED, result=_kept(relayed))
        return relayed


def relayed(job: Job) -> Relayed:
    """Return the answer that was kept with a relay that succeeded."""
    values = {tensor["name"]: tensor["data"][0] for tensor in orjson.loads(bytes(job.result or b"[]"))}
    body = base64.b64decode(values["body_base64"]) if "body_base64" in values else values["body"].encode()
    return Relayed(values["status"], values["content_type"], body)


def lost(job: Job) -> bool:
    """End a relay whose portal is gone. False when it has ended already."""
    message = "the portal that relayed it was gone before the answer was; the container may have done it all the same"
    return _end(job, Event.FAIL, error_code=ErrorCode.CONTAINER_UNAVAILABLE, error_message=message)


def _call(container: Container, body: bytes, headers: Mapping[str, str]) -> Reply:
    """Call the first address that can be reached."""
    begun = timezone.now()
    reasons = []
    for url in container.urls:
        left = container.timeout_seconds - (timezone.now() - begun).total_seconds()
        if left <= 0:
            break
        try:
            connect = container.connect_seconds
            reply = container_http.post(url, body, headers, seconds=left, connect=connect, most=MOST_BYTES)
        except ContainerUnavailable as error:
            if error.sent:
                raise
            reasons.append(str(error))
            continue
        if not 200 <= reply.status <= 599:
            raise ContainerError(f"the container answered with the status {reply.status}")
        return reply
    raise ContainerUnavailable("; ".join(reasons) or "no time was left for it", sent=False)


def _end(job: Job, event: Event, **fields: Any) -> bool:
    """Write the end down, unless the job was cancelled, or the sweep has given it up."""
    with transaction.atomic():
        ended = job_transition(job_id=job.id, event=event, of_attempt=job.attempt, **fields)
        if ended:
            announce_final([job.id])
    return ended


def _kept(answer: Relayed) -> bytes:
    """Return an answer as V2 tensors, which is what a result is everywhere."""
    try:
        body = ("body", answer.body.decode())
    except UnicodeDecodeError:
        body = ("body_base64", base64.b64encode(answer.body).decode())
    tensors = [
        {"name": "status", "datatype": "INT32", "shape": [1], "data": [answer.status]},
        {"name": "content_type", "datatype": "BYTES", "shape": [1], "data": [answer.content_type]},
        {"name": body[0], "datatype": "BYTES", "shape": [1], "data": [body[1]]},
    ]
    return orjson.dumps(tensors)
