"""`manage.py dispatch`: the dispatcher process."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from inference_portal import checks
from inference_portal.batches import chores as batches
from inference_portal.celery import app
from inference_portal.jobs import dispatch as jobs
from inference_portal.jobs.burial import Burial
from inference_portal.jobs.dispatch import Dispatcher
from workers.publisher import Publisher


class Command(BaseCommand):
    """Send due jobs to the workers until SIGTERM or SIGINT."""

    help = "Send accepted jobs to the workers, and bring back what was lost; runs until stopped."
    requires_system_checks = (checks.OURS,)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the dispatcher."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        burial = threading.Thread(target=Burial(app).run, args=(stop,), name="burial")
        burial.start()
        try:
            Dispatcher(Publisher(app), (*jobs.CHORES, *batches.CHORES)).run(stop)
        finally:
            # Should it end by an error, the process must too, and be started again: not live on with half of its work.
            stop.set()
            burial.join()
