"""The evidence about the broker counts what a look at ready messages would miss."""

from uuid import uuid4

from kombu import Connection, Queue

from tests.rabbitmq_node import RabbitMQNode
from tests.stack import wait_for


def test_a_delivered_message_that_nobody_has_acknowledged_counts(rabbitmq: RabbitMQNode) -> None:
    name = f"test-{uuid4().hex}"
    with Connection(rabbitmq.url(), transport_options={"confirm_publish": True}) as connection:
        channel = connection.default_channel
        queue = Queue(name, durable=True, queue_arguments={"x-queue-type": "quorum"})(channel)
        queue.declare()
        connection.Producer().publish("x", routing_key=name)
        message = queue.get()
        assert message is not None
        assert queue.queue_declare(passive=True).message_count == 0
        wait_for(lambda: rabbitmq.messages()[name] == 1, 20, rabbitmq.messages)
        message.ack()
        wait_for(lambda: rabbitmq.messages()[name] == 0, 20, rabbitmq.messages)
        queue.delete()
