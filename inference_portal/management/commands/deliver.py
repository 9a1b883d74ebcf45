"""`manage.py deliver`: the courier process."""

import signal
import threading
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from inference_portal import checks
from inference_portal.celery import app
from inference_portal.deliveries.announce import Announcer
from inference_portal.deliveries.courier import Courier
from workers.config import broker_is_embedded


class Command(BaseCommand):
    """Deliver until SIGTERM or SIGINT."""

    help = "Send what happened to whoever wants to hear of it (webhooks, sinks, subscribers); runs until stopped."
    requires_system_checks = (checks.OURS,)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the courier."""
        if settings.PUBLISH_EVENTS and broker_is_embedded():
            raise CommandError("PUBLISH_EVENTS needs RabbitMQ: set BROKER_URL, or leave PUBLISH_EVENTS out")
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        announcer = threading.Thread(target=Announcer(app).run, args=(stop,), name="announcer")
        if settings.PUBLISH_EVENTS:
            announcer.start()
        try:
            Courier().run(stop)
        finally:
            # Should it end by an error, the process must too, and be started again: not live on with half of its work.
            stop.set()
            if settings.PUBLISH_EVENTS:
                announcer.join()
