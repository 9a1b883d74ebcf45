"""Celery's consumer without its native delayed delivery."""

from celery.worker import consumer


class Consumer(consumer.Consumer):
    """Leaves out a step that Celery adds where it sees quorum queues.

    It would rebind our queues as `#.<key>`, which delivers messages to queues that they aren't for, and it needs
    permissions that no worker should have. We don't delay messages: backoff is in the job's row.
    """

    class Blueprint(consumer.Consumer.Blueprint):
        """The steps that are left."""

        default_steps = [step for step in consumer.Consumer.Blueprint.default_steps if "delayed_delivery" not in step]
