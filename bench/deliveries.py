"""`python -m bench.deliveries`: what a delivery costs the courier, beside a plain loop that POSTs the same bodies.

Both call such a receiver as syncs each call to disk, eight at a time, in one run. The courier works on PostgreSQL.
"""

import argparse
import asyncio
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import django
import httpx
import psutil
from django.core.management import call_command

from tests import services
from tests.chaos.receiver import received, receiving
from tests.stack import ROOT, wait_for

PATIENCE_SECONDS = 600.0
# Not measured: the start, until so many have arrived.
WARM = 100
GROUP = 100


def main() -> None:
    """Measure both and print the figures and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deliveries", type=int, default=2_000)
    number = parser.parse_args().deliveries
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        services.postgres_server() as postgres,
        services.database(postgres) as database,
    ):
        folder = Path(name)
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "inference_portal.settings",
            "DATABASE_URL": database,
            "DJANGO_SECRET_KEY": "only-for-this-run-" + "x" * 40,
            "RUN_DIR": name,
            "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        }
        django.setup()
        # A line for each call would be measured, too.
        logging.getLogger("httpx").setLevel(logging.WARNING)
        call_command("migrate", verbosity=0)
        with receiving(folder / "courier") as url:
            bodies = store(url, number)
            process = subprocess.Popen([sys.executable, "manage.py", "deliver"], cwd=ROOT)
            try:
                of_process = psutil.Process(process.pid)
                courier = measured(folder / "courier", number, lambda: sum(of_process.cpu_times()[:2]))
            finally:
                process.terminate()
                process.wait(30)
        with receiving(folder / "loop") as url:
            begun, cpu = time.perf_counter(), time.process_time()
            asyncio.run(post_all(url, bodies))
            loop = (number / (time.perf_counter() - begun), (time.process_time() - cpu) / number)
    for title, (rate, cost) in (("courier", courier), ("plain loop", loop)):
        print(f"{title:10} {rate:7.0f} deliveries/s  {cost * 1e6:7.0f} µs CPU each")
    print(f"courier / plain loop: {courier[0] / loop[0]:.2f} of the rate, {courier[1] / loop[1]:.2f} times the CPU")


def store(url: str, number: int) -> list[bytes]:
    """Have so many jobs end that name the receiver. Returns the bodies that it is to get."""
    from django.db import connections

    from inference_portal.accounts.models import Team
    from inference_portal.deliveries.letters import letter
    from inference_portal.deliveries.models import Delivery
    from inference_portal.jobs.record import record_result
    from tests.integration import rows

    team = Team.objects.create(name="bench")
    for first in range(0, number, GROUP):
        jobs = [rows.make_sent(team, webhook=url) for _ in range(min(GROUP, number - first))]
        record_result(rows.result(*(rows.success(job) for job in jobs)))
    bodies = [letter(delivery).body for delivery in Delivery.objects.select_related("job", "endpoint")]
    connections.close_all()
    return bodies


def measured(log: Path, number: int, cpu: Callable[[], float]) -> tuple[float, float]:
    """Return calls a second and CPU seconds a call, between the first that have arrived and the last."""
    wait_for(lambda: len(received(log)) >= WARM, PATIENCE_SECONDS, lambda: "nothing arrives")
    begun, before, first = time.perf_counter(), cpu(), len(received(log))
    wait_for(lambda: len(received(log)) >= number, PATIENCE_SECONDS, lambda: f"{len(received(log))} of {number}")
    calls = number - first
    return calls / (time.perf_counter() - begun), (cpu() - before) / calls


async def post_all(url: str, bodies: list[bytes]) -> None:
    """POST each body, eight at a time. Raises what a call raises."""
    left = iter(bodies)

    async def client() -> None:
        for body in left:
            (await http.post(url, content=body, headers={"webhook-id": "plain"})).raise_for_status()

    async with httpx.AsyncClient() as http:
        await asyncio.gather(*(client() for _ in range(8)))


if __name__ == "__main__":
    main()
