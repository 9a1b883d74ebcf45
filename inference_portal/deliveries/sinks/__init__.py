"""Where results go that an operator has configured, and a request or a model names: one file a kind, one table."""

from typing import Annotated

from pydantic import Field

from inference_portal.deliveries.sinks.amqp import AmqpSink
from inference_portal.deliveries.sinks.folder import FolderSink
from inference_portal.deliveries.sinks.s3 import S3Sink
from inference_portal.deliveries.sinks.webhook import WebhookSink

# The table of the kinds: what `type` says -> how it is configured, and how it is written to.
AnySink = Annotated[S3Sink | FolderSink | AmqpSink | WebhookSink, Field(discriminator="type")]
