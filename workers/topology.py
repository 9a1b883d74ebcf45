"""Every exchange and queue of the system, in one table. `python -m workers.topology` declares them.

Only this command declares on RabbitMQ, so that every running role gets by with `configure=^$` on what is listed here.
The embedded broker keeps exchange types in each process's memory, so there every process declares.

Arguments of a queue can't be changed once it exists (RabbitMQ answers 406), so what one may want to tune belongs into
policies; these are fixed because correctness hangs on them.
"""

from collections.abc import Collection
from dataclasses import dataclass

from celery import Celery
from kombu import Exchange, Queue

from workers.config import broker_is_embedded
from workers.manifest import BATCH, CONTAINER, EXPLAIN

REQUESTS = "inference.requests"
RESULTS = "inference.results"
DEAD = "inference.dead"
PORTAL = "portal.tasks"
# What happened, for anybody: subscribers bind queues of their own.
EVENTS = "inference.events"

# What a manifest's `pool` may be, and the pool of explanations.
POOLS = ("cpu", "gpu", BATCH, EXPLAIN, CONTAINER)
# Beside each pool's own lane a second one, where suspects are tried one at a time, in a process of their own.
ISOLATED = ".isolated"
RECORDER = "results.recorder"

# A message is redelivered this often before the broker gives it up. A backstop only: a worker that gets a message for
# the second time hands its jobs back, and what kills it before it can do so ends in DEAD, where the portal finds it.
# RabbitMQ before 4.0 has no limit by default, 4.x has 20.
DELIVERY_LIMIT = 3


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """One durable queue, bound to a topic exchange; `dead_letters` says whether rejected messages go to DEAD."""

    name: str
    exchange: str
    routing_key: str
    dead_letters: bool = True


def lane(pool: str, isolated: bool) -> str:
    """Return the name of a pool's lane, or of its isolation lane; `inference.<lane>` is the queue."""
    return f"{pool}{ISOLATED}" if isolated else pool


def reads(pool: str, lanes: Collection[str]) -> bool:
    """Tell whether who reads these lanes works for the pool, in its own lane or its isolation lane."""
    return any(each in lanes for each in (lane(pool, False), lane(pool, True)))


def routing_key(pool: str, isolated: bool, model: str) -> str:
    """Return the key that leads a bundle into its lane."""
    return f"isolated.{pool}.{model}" if isolated else f"{pool}.{model}"


TABLE = (
    *(
        QueueSpec(f"inference.{lane(pool, isolated)}", REQUESTS, routing_key(pool, isolated, "#"))
        for pool in POOLS
        for isolated in (False, True)
    ),
    QueueSpec(RECORDER, RESULTS, "#"),
    QueueSpec("portal.tasks", PORTAL, "#"),
    QueueSpec(DEAD, DEAD, "#", dead_letters=False),
)
# The queues whose rejected messages go to DEAD.
DEAD_LETTERING = frozenset(spec.name for spec in TABLE if spec.dead_letters)


def exchange(name: str) -> Exchange:
    """Return one of the table's exchanges (durable, topic)."""
    return Exchange(name, type="topic", durable=True, no_declare=not broker_is_embedded())


def _queue(spec: QueueSpec, *, declare: bool) -> Queue:
    arguments: dict[str, object] = {"x-queue-type": "quorum"}
    if spec.dead_letters:
        # At-least-once needs reject-publish; the default strategy loses a message when the broker dies in between.
        arguments |= {
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": DEAD,
            "x-dead-letter-routing-key": spec.name,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    return Queue(
        spec.name,
        Exchange(spec.exchange, type="topic", durable=True, no_declare=not declare),
        routing_key=spec.routing_key,
        durable=True,
        queue_arguments=arguments,
        no_declare=not declare,
    )


def queues() -> list[Queue]:
    """Return the table as kombu queues for consumers."""
    return [_queue(spec, declare=broker_is_embedded()) for spec in TABLE]


def dead_letters() -> Queue:
    """Return the queue of what was given up, for the portal."""
    return next(queue for queue in queues() if queue.name == DEAD)


def declare(app: Celery) -> list[str]:
    """Declare every exchange and queue of the table on the app's broker; safe to repeat. Returns the queue names."""
    with app.connection_for_write() as connection, connection.channel() as channel:
        Exchange(EVENTS, type="topic", durable=True).bind(channel).declare()
        for spec in TABLE:
            _queue(spec, declare=True).bind(channel).declare()
    return [spec.name for spec in TABLE]


if __name__ == "__main__":
    from workers.app import app

    print("declared:", ", ".join(declare(app)))
