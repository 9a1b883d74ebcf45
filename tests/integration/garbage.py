"""Messages that nobody can read, of every kind, and ways to put them on a broker and to find them again."""

import json
import uuid
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from kombu import Producer

from tests.integration import rows
from workers import embedded_broker, topology
from workers.contract import Bundle, BundleResult, JobItem, Run

JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Garbage:
    """One message as it is on the wire."""

    body: bytes
    headers: dict[str, Any] = field(default_factory=dict)
    content_type: str = JSON
    content_encoding: str = "utf-8"


def celery_headers(task: str, **changes: Any) -> dict[str, Any]:
    """Return the headers of a Celery message; None leaves one out."""
    known = {"lang": "py", "task": task, "id": str(uuid.uuid4()), "argsrepr": "", "kwargsrepr": ""} | changes
    return {name: value for name, value in known.items() if value is not None}


def celery_body(*arguments: Any) -> bytes:
    """Return the body of a Celery message."""
    embedded = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return json.dumps([arguments, {}, embedded]).encode()


def kinds(task: str) -> dict[str, Garbage]:
    """Return unreadable messages of every kind for the queue of those who run `task`."""
    right = celery_headers(task)
    other = {"v": 99}
    bundle = Bundle("b", "wine", "1", "ab", 1, (JobItem(str(uuid.uuid4()), 1, 1),), bytes(4)).to_message()
    result = BundleResult("b", Run("w", "h", "cpu", 0.0), ()).to_message()
    outcome = {"id": "\ud800", "attempt": 1, "outputs": "[]", "failure": None}
    job_id = str(uuid.uuid4())

    def with_numbers(attempt: int, seconds: float) -> Garbage:
        """Something that is right but for its numbers, whoever reads it."""
        times = {"expires": [seconds], "run": {**result["run"], "started": seconds}}
        attempts = {"jobs": [[job_id, attempt, 1]], "outcomes": [outcome | {"id": job_id, "attempt": attempt}]}
        return Garbage(celery_body(bundle | result | times | attempts), right)

    return {
        "an attempt beyond all numbers": with_numbers(2**70, 0.0),
        "an attempt that the database cannot hold": with_numbers(2**15, 0.0),
        "an attempt before the first": with_numbers(0, 0.0),
        "a moment after all time": with_numbers(1, 1e300),
        "a moment before all time": with_numbers(1, -1e300),
        "a moment that never comes": with_numbers(1, float("inf")),
        "a moment that is no number": with_numbers(1, float("nan")),
        "nothing at all": Garbage(b""),
        "no headers": Garbage(b"hello", content_type="text/plain"),
        "binary": Garbage(bytes(range(256)), content_type="application/octet-stream", content_encoding="binary"),
        "binary that says it is JSON": Garbage(b"\xff\xfe\x00\x80", right),
        "broken JSON": Garbage(b'[[{"v": 1', right),
        "JSON as deep as the sea": Garbage(b"[" * 100_000, right),
        "a pickle": Garbage(b"\x80\x04N.", right, "application/x-python-serialize", "binary"),
        "an encoding that does not exist": Garbage(celery_body(other), right, content_encoding="utf-5"),
        "a compression that does not exist": Garbage(celery_body(other), right | {"compression": "squeeze"}),
        "compressed without being so": Garbage(celery_body(other), right | {"compression": "gzip"}),
        "another task": Garbage(celery_body({}), celery_headers("no.such.task")),
        "a task whose name is a number": Garbage(celery_body({}), celery_headers(task) | {"task": 5}),
        "no id": Garbage(celery_body({}), celery_headers(task, id=None)),
        "a moment that is none": Garbage(celery_body({}), right | {"eta": "soon"}),
        "an object": Garbage(b'{"a": 1}', right),
        "a number": Garbage(b"5", right),
        "null": Garbage(b"null", right),
        "a list that is too short": Garbage(b"[[]]", right),
        "no argument": Garbage(celery_body(), right),
        "two arguments": Garbage(celery_body(other, other), right),
        "an argument of another shape": Garbage(celery_body(["x"]), right),
        "another version": Garbage(celery_body(bundle | result | {"v": 99}), right),
        "no jobs": Garbage(celery_body(bundle | {"jobs": []} | {"outcomes": [5], "run": None}), right),
        "NUL and half a character": Garbage(
            celery_body({"v": "\0", "id": "\ud800", "outcomes": [outcome]}), right | {"origin": "a\0b"}
        ),
        "very much": Garbage(celery_body({"v": 99, "ballast": "x" * 3_000_000}), right),
    }


def wrong_limits(task: str) -> dict[str, Garbage]:
    """Return messages that a child could be given, if only their time limits were some."""
    limits = {"a word": "long", "a number": 5, "two words": ["a", "b"], "one of two": [5], "three": [5, 5, 5]}
    return {
        name: Garbage(celery_body({"v": 99}), celery_headers(task, timelimit=found)) for name, found in limits.items()
    }


def publish(app: Celery, garbage: Garbage, exchange: str, routing_key: str) -> None:
    """Put the message on the broker as it is."""
    with rows.connect(app) as connection, connection.channel() as channel:
        if isinstance(channel, embedded_broker.Channel):
            topology.declare(app)
        Producer(channel, auto_declare=False).publish(
            garbage.body,
            exchange=exchange,
            routing_key=routing_key,
            content_type=garbage.content_type,
            content_encoding=garbage.content_encoding,
            headers=dict(garbage.headers),
        )


def buried(app: Celery) -> list[tuple[dict[str, Any], bytes]]:
    """Take everything out of the dead-letter queue; return headers and bodies."""
    found = []
    with rows.connect(app) as connection, connection.channel() as channel:
        topology.dead_letters()(channel).declare()
        # Not `Queue.get`, which raises for a message whose compression it doesn't know.
        while (raw := channel.basic_get(topology.DEAD, no_ack=True)) is not None:
            message = channel.message_to_python(raw)
            body = message.body if isinstance(message.body, bytes) else str(message.body).encode()
            found.append((dict(message.headers or {}), body))
    return found
