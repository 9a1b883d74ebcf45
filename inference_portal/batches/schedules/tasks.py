"""The recorder's task: beat says every few seconds that it is time to look."""

from celery import shared_task

from inference_portal.batches.schedules.tick import tick
from inference_portal.jobs.tasks import once_the_database_answers

TICK = "portal.schedules_tick"
TICK_SECONDS = 5.0


@shared_task(name=TICK)
def schedules_tick() -> None:
    """Make the runs that are due."""
    once_the_database_answers(tick)
