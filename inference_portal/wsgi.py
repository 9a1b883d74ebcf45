"""The portal as a WSGI application: `granian --interface wsgi inference_portal.wsgi:application`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inference_portal.settings")
# Hundreds of threads may wait for results; they share these connections (a waiter holds none).
os.environ.setdefault("DATABASE_POOL_SIZE", "16")

from django.core.management import call_command  # noqa: E402 (the environment comes first)
from django.core.wsgi import get_wsgi_application  # noqa: E402

application = get_wsgi_application()
# Wrong settings end the start here; manifests that can't be served are named in the log.
call_command("check")
