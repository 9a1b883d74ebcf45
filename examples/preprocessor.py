"""Turns raw messages into jobs: reads a queue of its own, makes the model's input of each, and PUTs it to the portal.

    BROKER_URL=amqp://… PORTAL_URL=http://… PORTAL_API_KEY=… python examples/preprocessor.py [queue]

Whoever has raw messages publishes them to the exchange of that name. A job's id follows from its message, and a message
is acknowledged only once the portal has answered: whoever dies wherever, it comes again and is the same job. What can't
become a job goes to the exchange and queue `<queue>.dead`, with the reason in the header `reason`.
"""

import hashlib
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections import deque
from http.client import HTTPException
from typing import Any
from uuid import UUID, uuid5

from kombu import Connection, Consumer, Exchange, Message, Queue

# Another one for each program: its jobs' ids are made with it.
NAMESPACE = UUID("5b0d0a5e-93c5-4d3c-8a4e-0a7d5f5a6c11")
PREFETCH = 20
TIMEOUT_SECONDS = 30.0
# Without Retry-After, and at most.
PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 5.0, 60.0
# Then all messages go back and come again: RabbitMQ closes a channel that holds one for half an hour.
HOLD_SECONDS = 600.0
# The portal didn't take the job, and it isn't the message's fault: the key is wrong, or there is too much to do.
NOT_NOW = {401, 403, 408, 429}


class Refused(ValueError):
    """The message can never become a job; the text says why."""


class HeldTooLong(RuntimeError):
    """The portal has taken nothing for HOLD_SECONDS."""


def job_of(body: bytes) -> dict[str, Any]:
    """Return the job of a raw message: the same for the same message, so that a repeat is one. Raises Refused.

    This is the part to write anew: here the customers of a phone company, as another program knows them.
    """
    try:
        raw = json.loads(body)
        row = {
            "plan": raw["plan"].lower(),
            "payment": (raw.get("payment") or "").lower() or None,
            "months": raw["months"],
            "monthly_fee": raw["fee_cents"] / 100,
            "support_calls": len(raw.get("calls", [])),
        }
        return {"model": "churn", "rows": [row], "labels": [f"customer {raw['customer']}"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Refused(f"the raw message can't be read: {error!r}") from error


def body_of(message: Message) -> bytes:
    """Return it as it was sent; the library has made text of some."""
    return message.body.encode() if isinstance(message.body, str) else bytes(message.body)


def id_of(message: Message) -> UUID:
    """Return the id of its job: by the sender's id of the message if there is one, else by what is in it."""
    name = message.properties.get("message_id") or hashlib.sha256(body_of(message)).hexdigest()
    return uuid5(NAMESPACE, name)


def put(job_id: UUID, job: dict[str, Any]) -> float | None:
    """Submit a job. Returns None once the portal has it, else after how many seconds to try again. Raises Refused."""
    request = urllib.request.Request(
        f"{os.environ['PORTAL_URL']}/api/jobs/{job_id}/",
        json.dumps(job).encode(),
        {"Authorization": f"Bearer {os.environ['PORTAL_API_KEY']}", "Content-Type": "application/json"},
        method="PUT",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS):
            return None
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        if error.code < 500 and error.code not in NOT_NOW:
            raise Refused(f"the portal answered {error.code}: {text}") from error
        print(f"{job_id}: not now, {error.code}: {text}", file=sys.stderr, flush=True)
        after = error.headers.get("Retry-After", "")
        return min(float(after), LONGEST_PAUSE_SECONDS) if after.isdecimal() else PAUSE_SECONDS
    except (OSError, HTTPException) as error:
        print(f"{job_id}: the portal is away: {error}", file=sys.stderr, flush=True)
        return PAUSE_SECONDS


class Preprocessor:
    """One connection: its messages, of which the first is worked on, and the queue for those that are refused."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection = connection
        self._waiting: deque[Message] = deque()
        self._dead = Exchange(f"{name}.dead", type="fanout")
        dead_queue = Queue(f"{name}.dead", self._dead, queue_arguments={"x-queue-type": "quorum"})
        self._queue = Queue(
            name,
            Exchange(name, type="fanout"),
            queue_arguments={
                "x-queue-type": "quorum",
                # Of a message that kills this program each time. RabbitMQ's own is none before 4.0, and 20 from there.
                "x-delivery-limit": 1000,
                "x-dead-letter-exchange": self._dead.name,
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            },
        )
        dead_queue.bind(connection.default_channel).declare()
        self._producer = connection.Producer()

    def run(self) -> None:
        """Work until the connection breaks. Raises HeldTooLong, and what the library raises."""
        with Consumer(
            self._connection, [self._queue], on_message=self._waiting.append, prefetch_count=PREFETCH, accept=None
        ):
            while True:
                while not self._waiting:
                    self._listen()
                message = self._waiting.popleft()
                try:
                    self._submit(id_of(message), job_of(body_of(message)))
                except Refused as refusal:
                    self._bury(message, str(refusal))
                # Only now: should it die before, the message comes again, and is the same job.
                message.ack()

    def _submit(self, job_id: UUID, job: dict[str, Any]) -> None:
        end = time.monotonic() + HOLD_SECONDS
        while (pause := put(job_id, job)) is not None:
            if time.monotonic() + pause > end:
                raise HeldTooLong(f"the portal has taken nothing for {HOLD_SECONDS:g} seconds")
            resumed = time.monotonic() + pause
            while time.monotonic() < resumed:
                self._listen()
        print(job_id, "submitted", flush=True)

    def _bury(self, message: Message, reason: str) -> None:
        """Hand it on with the reason, and return once the broker has it."""
        print("refused:", reason, file=sys.stderr, flush=True)
        self._producer.publish(
            body_of(message),
            exchange=self._dead,
            headers={**message.headers, "reason": reason[:4000]},
            content_type=message.content_type or "application/octet-stream",
            content_encoding=message.content_encoding or "binary",
            message_id=message.properties.get("message_id"),
            delivery_mode=2,
            mandatory=True,
        )

    def _listen(self) -> None:
        """Take what comes within a second. In pauses too: so the broker knows that somebody is there."""
        try:
            self._connection.drain_events(timeout=1.0)
        except TimeoutError:
            self._connection.heartbeat_check()


def main(queue: str = "subscriber.raw") -> None:
    """Work until it is stopped."""
    while True:
        connection = Connection(os.environ["BROKER_URL"], heartbeat=60, transport_options={"confirm_publish": True})
        try:
            with connection:
                connection.ensure_connection()
                Preprocessor(connection, queue).run()
        except HeldTooLong as error:
            print(f"{error}; beginning anew", file=sys.stderr, flush=True)
        except connection.connection_errors as error:
            print(f"the broker is away, trying again: {error}", file=sys.stderr, flush=True)
            time.sleep(1.0)


if __name__ == "__main__":
    main(*sys.argv[1:])
