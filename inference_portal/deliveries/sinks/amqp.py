"""Results as messages: to an exchange or a queue of RabbitMQ, and only what the broker has confirmed has arrived."""

from typing import Annotated, Any, Literal, Self

from amqp.exceptions import MessageNacked
from kombu import Connection
from pydantic import Field, model_validator

from inference_portal.deliveries.events import is_wanted
from inference_portal.deliveries.letters import CONTENT_TYPE
from inference_portal.deliveries.retry import Answer
from inference_portal.deliveries.sinks.sink import Events, NotSent, Parcel, Sink, Variable
from inference_portal.deliveries.sinks.threads import in_thread
from workers.config import secret

AmqpName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.:-]{1,200}$")]


class AmqpSink(Sink):
    """A persistent message for each event, with the event's id as its own."""

    type: Literal["amqp"]
    """amqp."""
    exchange: AmqpName | None = None
    """The exchange, which must be there; or:"""
    queue: AmqpName | None = None
    """The queue, which must be there."""
    routing_key: AmqpName | None = None
    """With an exchange; without this key it is the event's type."""
    url_variable: Variable = "BROKER_URL"
    """The courier's environment variable with the broker's address, amqp://user:password@host:5672/vhost or amqps://."""
    events: Events = ("inference.job.*",)
    """What it hears of: types of events, or their beginnings with a * behind."""

    @model_validator(mode="after")
    def _has_one_destination(self) -> Self:
        if (self.exchange is None) == (self.queue is None):
            raise ValueError("expected either exchange or queue")
        if self.queue is not None and self.routing_key is not None:
            raise ValueError("routing_key goes with an exchange")
        return self

    def wants(self, kind: str) -> bool:
        """Tell whether it is to hear of events of this type."""
        return is_wanted(kind, self.events)

    async def send(self, parcel: Parcel, seconds: float) -> Answer:
        """Publish the event, and wait for the broker's word."""
        return await in_thread(parcel.sink, lambda: self._publish(parcel, seconds), seconds)

    def _publish(self, parcel: Parcel, seconds: float) -> str:
        url = secret(self.url_variable)
        if not url.startswith(("amqp://", "amqps://")):
            raise NotSent(f"the courier's {self.url_variable} is no AMQP address")
        key = self.queue or self.routing_key or parcel.event["type"]
        connection = Connection(
            url,
            heartbeat=0,
            connect_timeout=seconds,
            # By the system's certificates, and for this very host.
            ssl={"server_hostname": None, "context": {"check_hostname": True}} if url.startswith("amqps:") else False,
            transport_options={
                "max_retries": 0,
                "read_timeout": seconds,
                "write_timeout": seconds,
                "confirm_publish": True,
            },
        )
        # A connection for each: nothing is used again that may be half dead, and the library isn't made for threads.
        try:
            connection.connect()
            self._send(connection.default_channel, parcel, key, seconds)
        except MessageNacked:
            raise NotSent("the broker refused the message; the queue may be full") from None
        finally:
            connection.collect(socket_timeout=1.0)
        return ""

    def _send(self, channel: Any, parcel: Parcel, key: str, seconds: float) -> None:
        message = channel.prepare_message(
            parcel.body,
            content_type=CONTENT_TYPE,
            content_encoding="utf-8",
            properties={"delivery_mode": 2, "message_id": parcel.event_id, "type": parcel.event["type"]},
        )
        # Mandatory: a message that no queue takes is an error, not a silent loss.
        channel.basic_publish(
            message, exchange=self.exchange or "", routing_key=key, mandatory=True, confirm_timeout=seconds
        )
