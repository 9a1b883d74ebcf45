"""Server-sent events about one thing: its state now and then each change, until its end."""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any, NamedTuple, TypeVar

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model
from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from rest_framework.request import Request

from inference_portal.errors import Problem
from inference_portal.jobs.pool import let_go
from inference_portal.jobs.streams import Follower, Streams
from inference_portal.jobs.waiting import NoPlace

# So often something is sent: nobody in between takes the connection for dead, and a client that is gone is found.
KEEP_ALIVE_SECONDS = 5.0
# After how many milliseconds a client should come again.
RETRY = 2_000

T = TypeVar("T", bound=Model)


class Event(NamedTuple):
    """One event: its id, by which a client says what it saw last; and whether it is the end."""

    id: str
    is_last: bool


def follow(
    request: Request,
    streams: Streams[T],
    thing: T,
    event: Callable[[T], Event],
    document: Callable[[T], dict[str, Any]],
) -> HttpResponseBase:
    """Stream the states of `thing`. Who has seen the end, by Last-Event-ID, gets 204: a browser doesn't come again.

    Raises Problem when all places are taken.
    """
    last = request.headers.get("Last-Event-ID", "")
    now = event(thing)
    if now.is_last and last == now.id:
        return HttpResponse(status=204)
    with ExitStack() as stack:
        try:
            follower = stack.enter_context(streams.follow(thing))
        except NoPlace:
            raise Problem("no-place-to-wait", "All places for event streams are taken.") from None
        stream = _Stream(_events(follower, last, event, document), stack.pop_all())
    response = StreamingHttpResponse(stream, content_type="text/event-stream")
    response["Cache-Control"] = "no-cache"
    # Proxies would collect it.
    response["X-Accel-Buffering"] = "no"
    return response


class _Stream:
    """The body: events as text. Whoever closes it, and the server does however it ends, gives the place back."""

    def __init__(self, events: Generator[bytes], place: ExitStack) -> None:
        self._events = events
        self._place = place

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        """Give the place back."""
        self._events.close()
        self._place.close()


def _events(
    follower: Follower[T], last: str, event: Callable[[T], Event], document: Callable[[T], dict[str, Any]]
) -> Generator[bytes]:
    # A client that reads slowly holds a thread, but no connection to the database.
    let_go()
    yield f"retry: {RETRY}\n\n".encode()
    while True:
        thing = follower.next(KEEP_ALIVE_SECONDS)
        if thing is None:
            yield b": still here\n\n"
            continue
        # What the client has seen before it lost the connection is not told again.
        if (now := event(thing)).id != last:
            text = f"id: {now.id}\ndata: {json.dumps(document(thing), cls=DjangoJSONEncoder)}\n\n"
            let_go()
            yield text.encode()
        if now.is_last:
            return
