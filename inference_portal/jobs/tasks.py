"""The recorder's tasks: read the message, call one service. Acknowledged after the commit."""

from collections.abc import Mapping
from typing import Any

from celery import shared_task
from django.core.management import call_command

from inference_portal.jobs import record
from workers.contract import HEARTBEAT, RECORD, STARTED, BundleResult, Heartbeat, Started
from workers.failpoints import failpoint


@shared_task(name=RECORD)
def result(message: Mapping[str, Any]) -> None:
    """Record a bundle's outcomes."""
    failpoint("recorder.before_commit")
    record.record_result(BundleResult.from_message(message))
    failpoint("recorder.after_commit")


@shared_task(name=STARTED)
def started(message: Mapping[str, Any]) -> None:
    """Show a bundle's jobs as running."""
    record.record_started(Started.from_message(message))


@shared_task(name=HEARTBEAT)
def heartbeat(message: Mapping[str, Any]) -> None:
    """Keep a worker's heartbeat."""
    record.record_heartbeat(Heartbeat.from_message(message))


@shared_task(name="portal.clear_sessions")
def clear_sessions() -> None:
    """Remove expired logins; beat sends this once a day."""
    call_command("clearsessions")
