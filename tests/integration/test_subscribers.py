"""Events reach whoever listens on the exchange: at least once, with one id each, whoever dies."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import amqp
import pytest
from celery import Celery
from kombu import Connection, Exchange, Queue

from inference_portal.accounts.models import Team
from inference_portal.batches.ending import tell
from inference_portal.batches.models import Kind
from inference_portal.deliveries import announce
from inference_portal.deliveries.announce import Channel, step
from inference_portal.deliveries.models import Announcement
from inference_portal.jobs.record import record_result
from inference_portal.jobs.services import job_cancel
from tests.integration import rows
from tests.integration.made_batches import make_batch
from tests.integration.rows import success
from tests.stack import ROOT, wait_for
from workers import topology

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _events(settings: Any) -> None:
    settings.PUBLISH_EVENTS = True


@pytest.fixture
def listening(rabbitmq_app: Celery) -> Iterator[Any]:
    """A queue that hears everything; call it for what has come."""
    exchange = Exchange(topology.EVENTS, type="topic", no_declare=True)
    queue = Queue("subscriber.test", exchange, routing_key="inference.#", queue_arguments={"x-queue-type": "quorum"})
    with Connection(rabbitmq_app.conf.broker_url) as connection:
        bound = queue.bind(connection.default_channel)
        bound.declare()

        def heard() -> list[dict[str, Any]]:
            found = []
            while (message := bound.get(no_ack=True, accept=None)) is not None:
                event = json.loads(message.body)
                assert message.properties["message_id"] == event["id"]
                assert message.delivery_info["routing_key"] == event["type"]
                found.append(event)
            return found

        yield heard
        bound.delete()


def publish(app: Celery) -> int:
    with closing(Channel(app)) as channel:
        return sum(iter(lambda: step(channel), 0))


def end(team: Team, number: int = 1) -> list[str]:
    jobs = [rows.make_sent(team) for _ in range(number)]
    record_result(rows.result(*(success(job) for job in jobs)))
    return sorted(f"job-{job.id}-1" for job in jobs)


def test_every_end_and_every_batch_is_heard_of(team: Team, rabbitmq_app: Celery, listening: Any) -> None:
    ids = end(team, 3)
    cancelled = rows.make_job(team)
    job_cancel(job_id=cancelled.id)
    batch = make_batch(team)
    tell(batch, Kind.SUCCEEDED)
    assert publish(rabbitmq_app) == 5
    assert not Announcement.objects.exists()
    events = listening()
    kinds = [event["type"] for event in events]
    assert sorted(kinds) == ["inference.batch.succeeded", "inference.job.cancelled", *["inference.job.succeeded"] * 3]
    assert sorted(event["id"] for event in events if event["type"] == "inference.job.succeeded") == ids
    for event in events:
        assert (event["specversion"], event["source"], event["team"]) == ("1.0", "/inference", "team")
        assert event["subject"] in (event["data"].get("job"), event["data"].get("batch"))


def test_many_go_out_in_steps(team: Team, rabbitmq_app: Celery, listening: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(announce, "STEP", 7)
    ids = sorted(each for _ in range(30) for each in end(team))
    assert publish(rabbitmq_app) == 30
    assert sorted(event["id"] for event in listening()) == ids


def test_without_a_subscriber_they_are_gone(team: Team, rabbitmq_app: Celery) -> None:
    end(team)
    assert publish(rabbitmq_app) == 1
    assert not Announcement.objects.exists()


def test_turned_off_nothing_is_written_down(team: Team, settings: Any) -> None:
    settings.PUBLISH_EVENTS = False
    end(team)
    assert not Announcement.objects.exists()


def test_who_dies_before_the_rows_are_removed_says_it_again(
    team: Team, rabbitmq_app: Celery, listening: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = end(team, 3)

    def die(name: str) -> None:
        if name == "announcer.after_publish":
            raise SystemExit

    monkeypatch.setattr(announce, "failpoint", die)
    with pytest.raises(SystemExit):
        publish(rabbitmq_app)
    monkeypatch.undo()
    assert Announcement.objects.count() == 1
    assert publish(rabbitmq_app) == 3
    assert sorted(event["id"] for event in listening()) == sorted(ids * 2)


def test_what_the_broker_does_not_take_is_kept(team: Team, rabbitmq_app: Celery, monkeypatch: Any) -> None:
    end(team, 3)
    monkeypatch.setattr(topology, "EVENTS", "inference.nowhere")
    with pytest.raises(amqp.exceptions.NotFound):
        publish(rabbitmq_app)
    assert Announcement.objects.count() == 1


def test_the_example_prints_each_event_once(team: Team, rabbitmq_app: Celery, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / "subscriber.py"), "subscriber.printed", "inference.job.*"],
            env=os.environ | {"BROKER_URL": rabbitmq_app.conf.broker_url},
            stdout=output,
            stderr=output,
        )
    try:
        with Connection(rabbitmq_app.conf.broker_url) as connection:
            wait_for(lambda: _is_there(connection), 30, log.read_text)
        ids = end(team, 3)
        kept = list(Announcement.objects.all())
        publish(rabbitmq_app)
        Announcement.objects.bulk_create(kept)
        publish(rabbitmq_app)
        wait_for(lambda: len(log.read_text().splitlines()) >= 3, 30, log.read_text)
        tell(make_batch(team), Kind.STARTED)
        last = end(team)
        publish(rabbitmq_app)
        wait_for(lambda: len(log.read_text().splitlines()) >= 4, 30, log.read_text)
        lines = [line.split() for line in log.read_text().splitlines()]
        assert sorted(line[0] for line in lines[:3]) == ids
        assert lines[3:] == [[last[0], "inference.job.succeeded", "wine"]]
    finally:
        process.kill()
        process.wait(10)


def _is_there(connection: Connection) -> bool:
    try:
        return bool(connection.default_channel.queue_declare("subscriber.printed", passive=True).consumer_count)
    except amqp.exceptions.NotFound:
        return False
