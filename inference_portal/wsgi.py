"""The portal as a WSGI application: `granian --interface wsgi inference_portal.wsgi:application`."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "inference_portal.settings")
# Hundreds of threads may wait for results; they share these connections (a waiter holds none).
os.environ.setdefault("DATABASE_POOL_SIZE", "16")

from django.core.wsgi import get_wsgi_application  # noqa: E402 (the environment comes first)

application = get_wsgi_application()
