"""The portal as a WSGI application: `granian --interface wsgi inference_portal.wsgi:application`."""

import multiprocessing
import os
import threading

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inference_portal.settings")
# Hundreds of threads may wait for results; they share these connections (a waiter holds none).
os.environ.setdefault("DATABASE_POOL_SIZE", "16")

from django.conf import settings  # noqa: E402 (the environment comes first)
from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()

from inference_portal.api import metrics_address  # noqa: E402 (so does Django)

# Wrong settings end the start here; manifests that can't be served are named in the log.
call_command("check")
if settings.METRICS_ADDRESS:
    metrics_address.start(settings.METRICS_ADDRESS)


def _end_with_the_server() -> None:
    """Exit when the server's main process has died: an orphan would go on answering beside the next portal."""
    server = multiprocessing.parent_process()
    if server is not None:
        server.join()
        os._exit(1)


threading.Thread(target=_end_with_the_server, name="server-watch", daemon=True).start()
