"""Hears of every job that ends and of every batch, from the exchange `inference.events`.

    BROKER_URL=amqp://… python examples/subscriber.py [queue] [pattern]

It binds a queue of its own, whose messages wait while it is away. An event may come twice, with the same id: what it
does with one must be done once, so it remembers the ids. Here it prints a line for each.
"""

import json
import os
import sys
from collections import OrderedDict

from kombu import Connection, Consumer, Exchange, Message, Queue

REMEMBERED = 100_000


def main(queue_name: str = "subscriber.example", pattern: str = "inference.#") -> None:
    """Print events until it is stopped. `pattern` is of their types, as in inference.job.failed or inference.batch.*"""
    seen: OrderedDict[str, None] = OrderedDict()

    def heard(message: Message) -> None:
        event = json.loads(message.body)
        if event["id"] not in seen:
            seen[event["id"]] = None
            if len(seen) > REMEMBERED:
                seen.popitem(last=False)
            print(event["id"], event["type"], event["data"].get("model", ""), flush=True)
        # Only now: should it die before, the event comes again.
        message.ack()

    exchange = Exchange("inference.events", type="topic", no_declare=True)
    queue = Queue(queue_name, exchange, routing_key=pattern, durable=True, queue_arguments={"x-queue-type": "quorum"})
    with Connection(os.environ["BROKER_URL"], heartbeat=30) as connection:
        while True:
            try:
                connection.ensure_connection()
                with Consumer(connection, queues=[queue], on_message=heard, prefetch_count=100, accept=None):
                    while True:
                        try:
                            connection.drain_events(timeout=10)
                        except TimeoutError:
                            # Nothing came; the broker is told that we are still here, or it would hang up.
                            connection.heartbeat_check()
            except connection.connection_errors as error:
                print(f"the broker is away, trying again: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
