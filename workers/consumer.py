"""Celery's consumer without its native delayed delivery, and unharmed by messages that nobody can read."""

import logging
from collections.abc import Callable
from typing import Any

from celery.worker import consumer

logger = logging.getLogger(__name__)

# What a message of another shape makes Celery raise before it hands it to a child.
_WRONG_SHAPE = (AttributeError, LookupError, TypeError, ValueError)


class Consumer(consumer.Consumer):
    """Rejects what it can't read, so that the broker dead-letters it and the portal can show it.

    It leaves out a step that Celery adds where it sees quorum queues. That would rebind our queues as `#.<key>`, which
    delivers messages to queues that they aren't for, and it needs permissions that no worker should have. We don't
    delay messages: backoff is in the job's row.
    """

    class Blueprint(consumer.Consumer.Blueprint):
        """The steps that are left."""

        default_steps = [step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in step]

    def on_decode_error(self, message: Any, exc: Exception) -> None:
        """Reject; Celery would acknowledge it, and it would be gone."""
        logger.error("a message can't be decoded, it goes to the dead letters: %s", exc)
        message.reject_log_error(logger, self.connection_errors)

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Return the handler; what it stumbles upon is rejected and doesn't end the worker."""
        handle = super().create_task_handler(*args, **kwargs)

        def on_task_received(message: Any) -> None:
            try:
                _check_time_limits(message)
                handle(message)
            except _WRONG_SHAPE as error:
                if message.acknowledged:
                    raise
                self.on_invalid_task(None, message, error)

        return on_task_received


def _check_time_limits(message: Any) -> None:
    """Raise TypeError for limits that the pool would stumble upon when it has taken the message already."""
    limits = (message.headers or {}).get("timelimit") or (None, None)
    right = isinstance(limits, (list, tuple)) and len(limits) == 2
    if not right or not all(limit is None or limit > 0 for limit in limits):
        raise TypeError(f"these are no time limits: {limits!r}")
