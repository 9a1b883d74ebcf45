"""Celery's settings for every process of the system, each with its reason."""

from typing import Any

from workers import embedded_broker, topology
from workers.config import broker_is_embedded, broker_url

# No socket operation towards the broker may hang for ever: a frozen broker or one under a memory alarm blocks
# publishers, and `confirm_timeout` alone doesn't end that.
SOCKET_TIMEOUT = 15.0


def settings() -> dict[str, Any]:
    """Return the configuration shared by worker, recorder, dispatcher and beat."""
    if broker_is_embedded():
        embedded_broker.register()
    return {
        "broker_url": broker_url(),
        # What must not be lost goes through `workers.publisher`, which waits for confirms. Celery's own connections
        # carry events for monitoring and beat's ticks: to wait for each stopped a worker's parent for milliseconds.
        "broker_transport_options": embedded_broker.transport_options() if broker_is_embedded() else {},
        # Wait for a broker that is away, at start and later, as long as it takes; a supervisor needn't help.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A hung process is noticed, and its message given to another one, within a minute.
        "broker_heartbeat": 30,
        # JSON only: nothing that executes code on reading.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        # The database is the truth; Celery keeps no results.
        "result_backend": None,
        "task_ignore_result": True,
        # Ack after the work. A child that dies gives its message back instead of losing it.
        "task_acks_late": True,
        # (That, and the next but one, only if the parent couldn't report it: see workers.lost.)
        "task_reject_on_worker_lost": True,
        # A task that raises is dead-lettered, not acked and gone.
        "task_acks_on_failure": False,
        # Whoever gets it then doesn't run it but hands its jobs back.
        "task_acks_on_timeout": False,
        # How long after a child's death its result may still arrive. Ten seconds (the default) would only be a delay:
        # a late result changes nothing.
        "worker_lost_wait": 0.5,
        # Prefetch 1: with more, a kill counts deliveries against messages that had never run.
        "worker_prefetch_multiplier": 1,
        "worker_consumer": "workers.consumer:Consumer",
        "worker_enable_prefetch_count_reduction": False,
        # A broker restart in mid-task: the message comes again anyway, effects are guarded, so let the task end.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
        # Only the queues of the topology table exist; a typing error must not create one.
        "task_queues": topology.queues(),
        "task_create_missing_queues": False,
        "task_default_queue": "portal.tasks",
        "task_default_exchange": topology.PORTAL,
        "task_default_exchange_type": "topic",
        "task_default_routing_key": "portal.tasks",
        # After a half-open connection the worker reconnects and must not meet its own exclusive lock; RabbitMQ 4.3
        # refuses queues that are neither exclusive nor durable.
        "control_queue_exclusive": False,
        "control_queue_durable": True,
        "event_queue_exclusive": False,
        "event_queue_durable": True,
        # Four seconds (the default) kills slow respawns for ever.
        "worker_proc_alive_timeout": 120.0,
        # Flower lives on these events. What it shows of a payload is what the publisher says that it is about.
        "worker_send_task_events": True,
        # That a task was sent is no news: what waits, waits as a row.
        "task_send_sent_event": False,
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "timezone": "UTC",
        "enable_utc": True,
    }
