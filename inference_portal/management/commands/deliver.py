"""`manage.py deliver`: the courier process."""

import signal
import threading
from typing import Any

from django.core.management.base import BaseCommand

from inference_portal import checks
from inference_portal.deliveries.courier import Courier


class Command(BaseCommand):
    """Deliver until SIGTERM or SIGINT."""

    help = "Send what happened to whoever wants to hear of it (webhooks, sinks); runs until stopped."
    requires_system_checks = (checks.OURS,)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the courier."""
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        Courier().run(stop)
