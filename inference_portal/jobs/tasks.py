"""The recorder's tasks: read the message, call one service. Acknowledged after the commit."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from celery import shared_task
from django.core.management import call_command
from django.db import InterfaceError, OperationalError, connection

from inference_portal.jobs import record
from workers.contract import HEARTBEAT, RECORD, STARTED, BundleResult, Heartbeat, Started
from workers.failpoints import failpoint

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0


def once_the_database_answers(write: Callable[[], object]) -> None:
    """Call `write` until the database takes it.

    Its message stays unacknowledged meanwhile: the broker keeps it should this process die, and a worker's result isn't
    dead-lettered because a database was restarted.
    """
    while True:
        try:
            write()
            return
        except (OperationalError, InterfaceError) as error:
            logger.warning("the database is away, trying again: %s", error)
            connection.close()
            time.sleep(PAUSE_SECONDS)


@shared_task(name=RECORD)
def result(message: Mapping[str, Any]) -> None:
    """Record a bundle's outcomes."""
    failpoint("recorder.before_commit")
    outcome = BundleResult.from_message(message)
    once_the_database_answers(lambda: record.record_result(outcome))
    failpoint("recorder.after_commit")


@shared_task(name=STARTED)
def started(message: Mapping[str, Any]) -> None:
    """Show a bundle's jobs as running."""
    start = Started.from_message(message)
    once_the_database_answers(lambda: record.record_started(start))


@shared_task(name=HEARTBEAT)
def heartbeat(message: Mapping[str, Any]) -> None:
    """Keep a worker's heartbeat."""
    beat = Heartbeat.from_message(message)
    once_the_database_answers(lambda: record.record_heartbeat(beat))


@shared_task(name="portal.clear_sessions")
def clear_sessions() -> None:
    """Remove expired logins; beat sends this once a day."""
    once_the_database_answers(lambda: call_command("clearsessions"))
