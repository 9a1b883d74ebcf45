"""A worker and a recorder are given messages that nobody can read, and go on serving."""

import contextlib
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from inference_portal.accounts.models import Team
from inference_portal.jobs.states import State
from tests.integration import garbage, rows
from tests.integration.celery_process import PATIENCE_SECONDS, CeleryProcess, Reports, recorder, worker
from tests.integration.garbage import Garbage, buried, celery_body, celery_headers, kinds, wrong_limits
from tests.integration.rows import failure, make_sent, success, whole
from tests.stack import wait_for
from workers import topology
from workers.contract import INFER, RECORD, Bundle, ErrorCode, JobItem


def wine_bundle() -> Bundle:
    """A bundle that a worker can run."""
    sha256 = rows.model_store().get("wine", "1").manifest.sha256
    return Bundle(str(uuid4()), "wine", "1", sha256, rows.WIDTH, (JobItem(str(uuid4()), 1, 1),), rows.ONE_ROW)


def all_are_buried(
    app: Celery, process: CeleryProcess, found: dict[str, Garbage], exchange: str, routing_key: str, queue: str
) -> None:
    """Send each kind, and see it in the dead letters, once, before the next one goes."""
    lost = {}
    for name, message in found.items():
        garbage.publish(app, message, exchange, routing_key)
        dead: list[tuple[dict[str, Any], bytes]] = []

        def came(dead: list[tuple[dict[str, Any], bytes]] = dead) -> bool:
            dead.extend(buried(app))
            return bool(dead) or not process.lives()

        with contextlib.suppress(AssertionError):
            wait_for(came, PATIENCE_SECONDS / 4, str)
        assert process.lives(), f"{name}: it ended\n{process.log()}"
        kept = [(headers["x-first-death-queue"], headers["x-first-death-reason"], body) for headers, body in dead]
        if kept != [(queue, "rejected", message.body)]:
            lost[name] = kept
    assert not lost, f"{lost}\n{process.log()}"


def test_a_worker_goes_on_serving_whatever_comes(broker_app: Celery, tmp_path: Path) -> None:
    with worker(tmp_path) as running:
        reports = Reports(broker_app, running)
        reports.heartbeat()
        child = running.children()
        all_are_buried(broker_app, running, kinds(INFER), topology.REQUESTS, "cpu.wine", "inference.cpu")
        bundle = wine_bundle()
        good = Garbage(celery_body(bundle.to_message()), celery_headers(INFER))
        garbage.publish(broker_app, good, topology.REQUESTS, "cpu.wine")
        (outcome,) = reports.result(bundle.id).outcomes
        assert outcome.failure is None
        assert running.children() == child, "a child was lost on the way"
        assert buried(broker_app) == []


@pytest.mark.parametrize("limits", wrong_limits(INFER))
def test_time_limits_that_are_none_take_no_place_in_the_pool(embedded_app: Celery, tmp_path: Path, limits: str) -> None:
    with worker(tmp_path) as running:
        reports = Reports(embedded_app, running)
        garbage.publish(embedded_app, wrong_limits(INFER)[limits], topology.REQUESTS, "cpu.wine")
        wait_for(lambda: buried(embedded_app), PATIENCE_SECONDS, lambda: f"not dead-lettered\n{running.log()}")
        bundle = wine_bundle()
        good = Garbage(celery_body(bundle.to_message()), celery_headers(INFER))
        garbage.publish(embedded_app, good, topology.REQUESTS, "cpu.wine")
        reports.result(bundle.id, seconds=15)


@pytest.mark.django_db(transaction=True)
def test_a_recorder_goes_on_recording_whatever_comes(team: Team, broker_app: Celery, tmp_path: Path) -> None:
    with recorder(tmp_path) as running:
        first, job, bad = make_sent(team), make_sent(team), make_sent(team)

        def send(*outcomes: object) -> None:
            body = celery_body(rows.result(*outcomes).to_message())  # type: ignore[arg-type]
            garbage.publish(broker_app, Garbage(body, celery_headers(RECORD)), topology.RESULTS, "result.wine")

        send(success(first))
        wait_for(lambda: whole(first.id)["state"] == State.SUCCEEDED, PATIENCE_SECONDS, running.log)
        all_are_buried(broker_app, running, kinds(RECORD), topology.RESULTS, "result.wine", topology.RECORDER)
        send(success(job), failure(bad, ErrorCode.BAD_DATA))
        wait_for(lambda: whole(job.id)["state"] == State.SUCCEEDED, PATIENCE_SECONDS, running.log)
        assert whole(bad.id)["state"] == State.FAILED
        assert buried(broker_app) == []
