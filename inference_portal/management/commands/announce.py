"""`manage.py announce`: say when the system can be used, and how."""

import json
import os
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from inference_portal import checks
from inference_portal.jobs.models import Worker
from models_store.samples import WINE
from workers.config import broker_is_embedded

PATIENCE_SECONDS = 120.0

BANNER = """
  The inference portal is ready.

    Address    {PORTAL_URL}/            (API: {PORTAL_URL}/api/docs/)
    Login      {PORTAL_USER} / {PORTAL_PASSWORD}
    API key    {PORTAL_API_KEY}{flower}
    Logs       {logs}
    These are for this run only; scripts find them in {env}

  Ask and wait for the answer:

curl -s {PORTAL_URL}/v2/models/wine/infer -H 'Authorization: Bearer {PORTAL_API_KEY}' -H 'Content-Type: application/json' -d '{body}'

  Ask and fetch the answer later (ResultPath says where):

curl -s {PORTAL_URL}/v2/models/wine/infer -H 'Prefer: respond-async' -H 'Authorization: Bearer {PORTAL_API_KEY}' -H 'Content-Type: application/json' -d '{body}'

  Look at the newest jobs:

curl -s {PORTAL_URL}/api/jobs/?page_size=3 -H 'Authorization: Bearer {PORTAL_API_KEY}'

  Ctrl-C stops everything.
"""  # noqa: E501


class Command(BaseCommand):
    """Wait until portal and worker answer, then print how to use them."""

    help = "Wait until the system is ready and print address, login, key and curl lines."
    requires_system_checks = (checks.OURS,)

    def handle(self, *args: Any, **options: Any) -> None:
        """Print the banner. Raises CommandError when the system isn't ready in time."""
        env_file: Path = settings.RUN_DIR / "demo.env"
        demo = dict(line.split("=", 1) for line in env_file.read_text().splitlines())
        end = time.monotonic() + PATIENCE_SECONDS
        while not (Worker.objects.alive().exists() and _answers(f"{demo['PORTAL_URL']}/v2/health/ready")):
            if time.monotonic() > end:
                raise CommandError(f"Not ready after {PATIENCE_SECONDS:.0f} s; look into {settings.RUN_DIR / 'logs'}.")
            time.sleep(0.2)
        flower = (
            ""
            if broker_is_embedded()
            else f"\n    Flower     http://127.0.0.1:{os.environ['FLOWER_PORT']}/ (same login)"
        )
        body = json.dumps({"instances": [WINE]})
        self.stdout.write(BANNER.format(**demo, env=env_file, logs=settings.RUN_DIR / "logs", flower=flower, body=body))


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:  # noqa: S310 (our own portal)
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
