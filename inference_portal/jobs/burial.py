"""From the broker's dead-letter queue to rows.

What gets there was given back too often, or rejected: a bundle that killed its worker before the worker could say a
word, a result whose recorder died again and again, or a message that nobody can read. A bundle's jobs go on as
suspects, a result is recorded, anything else is parked for a person.
"""

import hashlib
import json
import logging
import threading
from contextlib import closing
from typing import Any
from uuid import UUID

from celery import Celery
from django.db import InterfaceError, OperationalError, connection, transaction

from inference_portal.jobs.models import ParkedMessage
from inference_portal.jobs.record import record_lost, record_result, storable
from workers import topology
from workers.config import broker_is_embedded
from workers.contract import (
    HEARTBEAT,
    INFER,
    RECORD,
    STARTED,
    STEP,
    Bundle,
    BundleResult,
    ErrorCode,
    Failure,
    Heartbeat,
    Started,
    UnreadableMessage,
)
from workers.failpoints import failpoint
from workers.settings import SOCKET_TIMEOUT

logger = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
# After an error, which is mostly a broker that is away.
PAUSE_SECONDS = 3.0


class Burial:
    """Empties the dead-letter queue; a thread of the dispatcher. One message at a time: there should be none."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set. Survives a database or a broker that is away."""
        while not stop.is_set():
            try:
                with closing(self._connect()) as broker:
                    queue = topology.dead_letters()(broker.default_channel)
                    if broker_is_embedded():
                        queue.declare()
                    while not stop.is_set():
                        if not self.step(queue, stop):
                            stop.wait(LOOK_SECONDS)
            except Exception as error:
                logger.warning("the dead letters can't be read, trying again: %s", error)
                connection.close()
                stop.wait(PAUSE_SECONDS)
        connection.close()

    def step(self, queue: Any, stop: threading.Event) -> bool:
        """Record one message and only then take it out of the queue. Returns whether there was one.

        Keeps it while the database is away, for the broker counts what is given back and may drop it in the end
        (RabbitMQ 4: after 20 times). Raises OperationalError or InterfaceError if `stop` is set before it answers.
        """
        # Not `queue.get`: kombu raises there for a message that says it is compressed in a way that it isn't.
        raw = queue.channel.basic_get(queue.name, no_ack=False)
        if raw is None:
            return False
        message = queue.channel.message_to_python(raw)
        body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
        while True:
            try:
                bury(dict(message.headers or {}), body)
                break
            except (OperationalError, InterfaceError) as error:
                if stop.is_set():
                    raise
                logger.warning("the database is away, trying again: %s", error)
                connection.close()
                stop.wait(PAUSE_SECONDS)
        failpoint("burial.after_commit")
        message.ack()
        return True

    def _connect(self) -> Any:
        options = {} if broker_is_embedded() else {"read_timeout": SOCKET_TIMEOUT, "write_timeout": SOCKET_TIMEOUT}
        opened = self._app.connection_for_read(
            heartbeat=0, connect_timeout=SOCKET_TIMEOUT, transport_options=options | {"max_retries": 0}
        )
        opened.connect()
        return opened


def bury(headers: dict[str, Any], body: bytes) -> None:
    """Do what a dead message still asks for, or park it; safe to repeat."""
    queue = storable(str(headers.get("x-first-death-queue", topology.DEAD)))
    reason = storable(str(headers.get("x-first-death-reason", "published")))
    with transaction.atomic():
        try:
            with transaction.atomic():
                _carry_out(headers, body, queue, reason)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            # Whatever it is: what isn't taken out of the queue comes again, and nothing behind it ever does.
            _park(queue, reason, headers, body, f"{type(error).__name__}: {error}")
        failpoint("burial.before_commit")


def _carry_out(headers: dict[str, Any], body: bytes, queue: str, reason: str) -> None:
    """Hand a dead bundle's jobs to the retry policy, record a result. Raises for what nobody can read."""
    task = headers.get("task")
    if task not in (INFER, STEP, RECORD, STARTED, HEARTBEAT):
        raise UnreadableMessage(f"none of our messages but {task or 'something unknown'!r}")
    message = json.loads(body)[0][0]
    if task in (STARTED, HEARTBEAT):
        # Hints, and out of date: the next one tells more. Read all the same, for what can't be read is parked.
        Started.from_message(message) if task == STARTED else Heartbeat.from_message(message)
        return
    if task == RECORD:
        record_result(BundleResult.from_message(message))
        return
    bundle = Bundle.from_message(message)
    how = f"{reason} in {queue}"
    # We can read it, so who rejected it is of another version, and alive; nobody is suspected.
    code = ErrorCode.MESSAGE_REFUSED if reason == "rejected" else ErrorCode.WORKER_LOST
    failure = Failure(code, f"the broker gave its message up ({how})")
    record_lost([(UUID(job.id), job.attempt) for job in bundle.jobs], failure)
    logger.warning("a bundle of %d jobs was dead-lettered (%s)", len(bundle.jobs), how)


def _park(queue: str, reason: str, headers: dict[str, Any], body: bytes, error: str) -> None:
    # What the broker counts is another number when it delivers the same message again.
    kept = {name: value for name, value in headers.items() if name != "x-delivery-count"}
    text = json.dumps(kept, default=repr, sort_keys=True).replace("\\u0000", "\\ufffd")
    digest = hashlib.sha256(b"\0".join((queue.encode(), text.encode(), body))).hexdigest()
    _, parked = ParkedMessage.objects.get_or_create(
        digest=digest,
        defaults={
            "queue": queue[:255],
            "reason": reason[:64],
            "error": storable(error),
            "headers": text,
            "body": body,
            "size": len(body),
        },
    )
    if parked:
        logger.warning("a message that nobody can read was parked (%s in %s): %s", reason, queue, error)
