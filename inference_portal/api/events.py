"""GET /api/jobs/{id}/events/: server-sent events, the state now and then each change, until the end."""

import json
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from inference_portal.api import answers, schemas
from inference_portal.api.auth import caller_of
from inference_portal.api.negotiation import ByTheView
from inference_portal.api.request_id import OfOneJob
from inference_portal.errors import Problem
from inference_portal.jobs.models import Job
from inference_portal.jobs.pool import let_go
from inference_portal.jobs.streams import Follower, streams
from inference_portal.jobs.waiting import NoPlace

# So often something is sent: nobody in between takes the connection for dead, and a client that is gone is found.
KEEP_ALIVE_SECONDS = 5.0
# After how many milliseconds a client should come again.
RETRY = 2_000


class JobEventsView(OfOneJob):
    """GET a stream of a job's states."""

    content_negotiation_class = ByTheView

    @extend_schema(**schemas.JOB_EVENTS)
    def get(self, request: Request, job_id: UUID) -> HttpResponseBase:
        """Stream them. Who has seen the end, by Last-Event-ID, gets 204, which tells a browser not to come again."""
        job = Job.objects.named(job_id, caller_of(request))
        if job is None:
            raise Problem("not-found", f"There is no job '{job_id}'.")
        last = request.headers.get("Last-Event-ID", "")
        if job.is_final and last == _event_id(job):
            return HttpResponse(status=204)
        with ExitStack() as stack:
            try:
                follower = stack.enter_context(streams.follow(job))
            except NoPlace:
                raise Problem("no-place-to-wait", "All places for event streams are taken.") from None
            stream = _Stream(follower, last, stack.pop_all())
        response = StreamingHttpResponse(stream, content_type="text/event-stream")
        response["Cache-Control"] = "no-cache"
        # Proxies would collect it.
        response["X-Accel-Buffering"] = "no"
        response["X-Inference-Id"] = str(job.id)
        return response


class _Stream:
    """The body: events as text. Whoever closes it, and the server does however it ends, gives the place back."""

    def __init__(self, follower: Follower, last: str, place: ExitStack) -> None:
        self._events = _events(follower, last)
        self._place = place

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """Give the place back."""
        self._events.close()
        self._place.close()


def _events(follower: Follower, last: str) -> Generator[bytes]:
    # A client that reads slowly holds a thread, but no connection to the database.
    let_go()
    yield f"retry: {RETRY}\n\n".encode()
    while True:
        job = follower.next(KEEP_ALIVE_SECONDS)
        if job is None:
            yield b": still here\n\n"
            continue
        # What the client has seen before it lost the connection is not told again.
        if (event := _event_id(job)) != last:
            text = f"id: {event}\ndata: {json.dumps(answers.status(job), cls=DjangoJSONEncoder)}\n\n"
            let_go()
            yield text.encode()
        if job.is_final:
            return


def _event_id(job: Job) -> str:
    return f"{job.attempt}-{job.state}"
