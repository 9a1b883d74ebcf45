"""Events for whoever listens on the exchange `inference.events`: the rows of `Announcement` are the outbox.

A thread of the courier: in the dispatcher it would hold up what people wait for. Many messages go out before their
confirms are waited for (69 against 367 µs a message), and only then are the rows removed: an event may be published
twice, with the same id, and is never missed.
"""

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

import orjson
from celery import Celery
from django.db import connection, transaction

from inference_portal.deliveries.letters import CONTENT_TYPE
from inference_portal.deliveries.models import Announcement
from workers import topology
from workers.confirms import Confirms
from workers.failpoints import failpoint
from workers.settings import SOCKET_TIMEOUT

logger = logging.getLogger(__name__)

# Rows, each with the events of a bundle.
STEP = 20
LOOK_SECONDS = 0.25
# After an error, which is mostly a broker that is away.
PAUSE_SECONDS = 3.0


class Refused(RuntimeError):
    """The broker would not have some of the messages."""


class Announcer:
    """Empties the outbox. Any number may run: each takes rows that no other one has."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Survives a database or a broker that is away."""
        while not stop.is_set():
            try:
                with closing(Channel(self._app)) as channel:
                    while not stop.is_set():
                        if not step(channel):
                            stop.wait(LOOK_SECONDS)
            except Exception as error:
                logger.warning("events can't be published, trying again: %s", error)
                connection.close()
                stop.wait(PAUSE_SECONDS)
        connection.close()


class Channel:
    """A connection for publishing events, thrown away after any error."""

    def __init__(self, app: Celery) -> None:
        options = {"max_retries": 0, "read_timeout": SOCKET_TIMEOUT, "write_timeout": SOCKET_TIMEOUT}
        self._connection = app.connection_for_write(
            heartbeat=0,
            connect_timeout=SOCKET_TIMEOUT,
            transport_options=options | {"confirm_publish": False},
        )
        self._connection.connect()
        self._channel = self._connection.default_channel
        self._confirms = Confirms(self._channel)

    def publish(self, events: Sequence[dict[str, Any]]) -> None:
        """Publish, and return once the broker has confirmed all. Raises Refused, and what the library raises."""
        for event in events:
            message = self._channel.prepare_message(
                orjson.dumps(event),
                content_type=CONTENT_TYPE,
                content_encoding="utf-8",
                properties={"delivery_mode": 2, "message_id": event["id"], "type": event["type"]},
            )
            self._channel.basic_publish(message, exchange=topology.EVENTS, routing_key=event["type"])
        self._confirms.wait(SOCKET_TIMEOUT)
        if self._confirms.take_failed():
            raise Refused("the broker refused some of the events")

    def close(self) -> None:
        """Drop the connection without ceremony."""
        self._connection.collect(socket_timeout=1.0)


def step(channel: Channel) -> int:
    """Publish the oldest events and remove their rows. Returns how many there were."""
    if not Announcement.objects.exists():
        return 0
    with _locking() as found:
        announcements = list(found[:STEP])
        failpoint("announcer.before_publish")
        events = [event for each in announcements for event in orjson.loads(bytes(each.events))]
        channel.publish(events)
        failpoint("announcer.after_publish")
        Announcement.objects.filter(pk__in=[each.pk for each in announcements]).delete()
    return len(events)


@contextmanager
def _locking() -> Iterator[Any]:
    """Yield the outbox, oldest first, without the rows that another one publishes right now.

    SQLite has no such locks, and must not be held while one waits for a broker; two dispatchers there say some twice.
    """
    oldest = Announcement.objects.order_by("pk")
    if connection.vendor != "postgresql":
        yield oldest
        return
    with transaction.atomic():
        yield oldest.select_for_update(skip_locked=True)
