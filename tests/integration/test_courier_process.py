"""The courier as a process, killed at its worst moments and at random: every event arrives, with one id each."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings

from inference_portal.accounts.models import Team
from inference_portal.deliveries.models import Delivery, DeliveryAttempt
from inference_portal.deliveries.states import State
from inference_portal.jobs.record import record_result
from tests.integration import rows
from tests.integration.receiver import Receiver, receiving
from tests.integration.rows import success
from tests.stack import ROOT, wait_for

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE_SECONDS = 120.0
DELIVERIES = int(os.environ.get("COURIER_TEST_DELIVERIES", "300"))
KILLS = 5


def database_url() -> str:
    database = django_settings.DATABASES["default"]
    if database["ENGINE"].endswith("sqlite3"):
        return f"sqlite:///{database['NAME']}"
    return f"postgres://{database['USER']}@{database['HOST']}:{database['PORT']}/{database['NAME']}"


def start(folder: Path, **variables: str) -> "subprocess.Popen[bytes]":
    usual = {
        "DATABASE_URL": database_url(),
        "DJANGO_SECRET_KEY": "only-for-this-test-run-" + "x" * 40,
        "RUN_DIR": str(folder),
        "WEBHOOK_ALLOWED_NETWORKS": "127.0.0.0/8",
        "WEBHOOK_TIMEOUT_SECONDS": "5",
    }
    with (folder / "courier.log").open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "manage.py", "deliver"],
            cwd=ROOT,
            env=os.environ | usual | variables,
            stdout=output,
            stderr=output,
        )


@contextmanager
def supervised(folder: Path, **variables: str) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Run a courier; end it, and those that the test starts after it."""
    processes = [start(folder, **variables)]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait(10)


def end(team: Team, url: str, number: int) -> set[str]:
    ids = set()
    for first in range(0, number, 50):
        jobs = [rows.make_sent(team, webhook=url) for _ in range(min(50, number - first))]
        record_result(rows.result(*(success(job) for job in jobs)))
        ids |= {f"job-{job.id}-1" for job in jobs}
    return ids


@pytest.mark.parametrize(
    "place", ["courier.claiming", "courier.after_claim", "courier.after_call", "courier.before_commit"]
)
def test_who_dies_here_delivers_all_the_same(team: Team, tmp_path: Path, place: str) -> None:
    with receiving() as receiver, supervised(tmp_path, FAILPOINTS=f"{place}=kill") as processes:
        ids = end(team, receiver.url, 5)
        assert processes[0].wait(PATIENCE_SECONDS) == -signal.SIGKILL
        processes.append(start(tmp_path, FAILPOINTS=f"{place}=kill"))
        all_delivered(ids, receiver, tmp_path)


def test_a_stop_waits_for_the_calls_that_are_under_way(team: Team, tmp_path: Path) -> None:
    with receiving() as receiver, supervised(tmp_path) as (process,):
        receiver.acts = lambda handler: (time.sleep(1), handler.send_response(204), handler.end_headers())[0]
        ids = end(team, receiver.url, 3)
        wait_for(lambda: len(receiver.calls) == 3, PATIENCE_SECONDS, (tmp_path / "courier.log").read_text)
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == 0
        assert set(receiver.ids) == ids
        assert set(Delivery.objects.values_list("state", flat=True)) == {State.DELIVERED}


def test_kills_at_random_lose_no_event_and_make_up_none(team: Team, tmp_path: Path) -> None:
    generator = random.Random(7)
    kills = 0
    with receiving() as receiver, supervised(tmp_path) as processes:
        receiver.acts = lambda handler: (time.sleep(0.05), handler.send_response(204), handler.end_headers())[0]
        begun = time.monotonic()
        ids = end(team, receiver.url, DELIVERIES)
        while Delivery.objects.exclude(state=State.DELIVERED).exists():
            assert time.monotonic() - begun < 3 * PATIENCE_SECONDS + DELIVERIES, (tmp_path / "courier.log").read_text()
            seen = len(receiver.calls)
            deadline = time.monotonic() + generator.uniform(0.2, 1.5)
            while time.monotonic() < deadline or (kills < KILLS and len(receiver.calls) == seen):
                time.sleep(0.02)
                if not Delivery.objects.exclude(state=State.DELIVERED).exists() or time.monotonic() > deadline + 30:
                    break
            if kills < KILLS:
                kills += 1
                processes[-1].kill()
                processes[-1].wait(10)
                processes.append(start(tmp_path))
        seconds = time.monotonic() - begun
        all_delivered(ids, receiver, tmp_path)
    times = Counter(receiver.ids)
    print(f"{DELIVERIES} deliveries, {kills} kills, {seconds:.1f} s, {sum(times.values()) - len(times)} repeats")
    assert kills >= 1


def all_delivered(ids: set[str], receiver: Receiver, folder: Path) -> None:
    def done() -> bool:
        return not Delivery.objects.exclude(state=State.DELIVERED).exists()

    wait_for(done, PATIENCE_SECONDS, lambda: (folder / "courier.log").read_text()[-6000:])
    assert set(receiver.ids) == ids
    bodies: dict[str, set[bytes]] = {}
    for call in receiver.calls:
        bodies.setdefault(call.headers["webhook-id"], set()).add(call.body)
    assert all(len(each) == 1 for each in bodies.values())
    found: Any = Delivery.objects.all()
    assert {delivery.event_id for delivery in found} == ids
    assert DeliveryAttempt.objects.filter(status=204).count() == len(ids)
