"""The embedded broker counts and buries as RabbitMQ does: what this shows is run on both."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from kombu import Exchange, Producer, Queue

from tests.integration import garbage, rows
from tests.integration.garbage import Garbage, buried, celery_body, celery_headers
from tests.stack import wait_for
from workers import topology
from workers.contract import INFER

MESSAGE = Garbage(celery_body({"v": 1, "text": "ünï"}), celery_headers(INFER))


@contextmanager
def reading(app: Celery, name: str = "inference.cpu") -> Iterator[Any]:
    """A queue on a connection of its own; what isn't acknowledged at the end goes back."""
    with rows.connect(app) as connection, connection.channel() as channel:
        yield rows.declared(app, name)(channel)


def get(queue: Any) -> Any:
    """Wait for a message: RabbitMQ needs a moment until one that was given back can be had again."""
    found: list[Any] = []
    wait_for(lambda: found.append(queue.get()) or found[-1] is not None, 10, lambda: "no message comes")
    return found[-1]


def send(app: Celery, message: Garbage = MESSAGE, routing_key: str = "cpu.wine") -> None:
    garbage.publish(app, message, topology.REQUESTS, routing_key)


def dead(app: Celery, count: int) -> list[tuple[dict[str, Any], bytes]]:
    """Wait for so many dead letters; there must not be more."""
    found: list[tuple[dict[str, Any], bytes]] = []
    wait_for(lambda: found.extend(buried(app)) or len(found) >= count, 10, lambda: f"{len(found)} dead letters")
    assert len(found) == count
    return found


def test_a_message_that_comes_for_the_first_time_has_no_count(broker_app: Celery) -> None:
    send(broker_app)
    with reading(broker_app) as queue:
        message = get(queue)
        assert not message.headers.get("x-delivery-count")
        message.ack()


@pytest.mark.parametrize("how", ["requeued", "left by who had it"])
def test_a_message_that_is_given_back_says_how_often(broker_app: Celery, how: str) -> None:
    send(broker_app)
    counts = []
    for _ in range(topology.DELIVERY_LIMIT + 1):
        with reading(broker_app) as queue:
            message = get(queue)
            counts.append(message.headers.get("x-delivery-count", 0))
            assert (message.body if isinstance(message.body, bytes) else message.body.encode()) == MESSAGE.body
            if how == "requeued":
                message.requeue()
    assert counts == list(range(topology.DELIVERY_LIMIT + 1))
    # And no further: the broker has given it up.
    ((headers, body),) = dead(broker_app, 1)
    assert (headers["x-first-death-queue"], headers["x-first-death-reason"]) == ("inference.cpu", "delivery_limit")
    assert (headers["id"], headers["task"], body) == (MESSAGE.headers["id"], INFER, MESSAGE.body)
    with reading(broker_app) as queue:
        assert queue.get() is None


def test_a_message_that_is_rejected_is_dead_lettered_once_as_it_was(broker_app: Celery) -> None:
    send(broker_app)
    with reading(broker_app) as queue:
        get(queue).reject()
    ((headers, body),) = dead(broker_app, 1)
    assert (headers["x-first-death-queue"], headers["x-first-death-reason"]) == ("inference.cpu", "rejected")
    assert {name: headers[name] for name in MESSAGE.headers} == MESSAGE.headers
    assert body == MESSAGE.body
    with reading(broker_app) as queue:
        assert queue.get() is None


def test_a_message_that_was_acknowledged_is_gone(broker_app: Celery) -> None:
    send(broker_app)
    with reading(broker_app) as queue:
        get(queue).ack()
    with reading(broker_app) as queue:
        assert queue.get() is None
    assert buried(broker_app) == []


@pytest.mark.parametrize(
    ("routing_key", "name"),
    [
        ("gpu.wine", "inference.gpu"),
        ("isolated.cpu.wine", "inference.cpu.isolated"),
        ("isolated.gpu.wine", "inference.gpu.isolated"),
    ],
)
def test_each_lane_is_a_queue_of_its_own(broker_app: Celery, routing_key: str, name: str) -> None:
    send(broker_app, routing_key=routing_key)
    for other in ("inference.cpu", "inference.cpu.isolated", "inference.gpu", "inference.gpu.isolated"):
        with reading(broker_app, other) as queue:
            if other == name:
                get(queue).reject()
            else:
                assert queue.get() is None
    ((headers, _),) = dead(broker_app, 1)
    assert headers["x-first-death-queue"] == name


def test_messages_of_celerys_own_queues_are_never_dead_lettered(broker_app: Celery) -> None:
    """Remote control and events: who can't read one drops it."""
    exchange = Exchange("celery.pidbox.test", type="fanout")
    with rows.connect(broker_app) as connection, connection.channel() as channel:
        queue = Queue("worker.celery.pidbox", exchange, expires=60)(channel)
        queue.declare()
        producer = Producer(channel, exchange)
        producer.publish({"method": "ping"})
        get(queue).reject()
        producer.publish({"method": "ping"})
        for _ in range(topology.DELIVERY_LIMIT):
            get(queue).requeue()
        get(queue).ack()
    assert buried(broker_app) == []
