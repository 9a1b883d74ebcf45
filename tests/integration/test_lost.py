"""A real worker whose child dies or hangs, or that gets a message again, says so at once and serves the next one."""

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from celery import Celery

from tests.integration import garbage, rows
from tests.integration.celery_process import PATIENCE_SECONDS, Reports, worker
from tests.integration.garbage import Garbage, buried, celery_body, celery_headers
from tests.stack import wait_for
from workers import topology
from workers.contract import INFER, Bundle, BundleResult, ErrorCode, JobItem

GOOD = np.full(rows.WIDTH, 2.0, dtype="<f4").tobytes()


def bundle(*jobs: JobItem) -> Bundle:
    sha256 = rows.model_store().get("wine", "1").manifest.sha256
    data = GOOD * sum(job.rows for job in jobs)
    return Bundle(str(uuid4()), "wine", "1", sha256, rows.WIDTH, jobs, data)


def job(attempt: int = 1, expires: float | None = None) -> JobItem:
    return JobItem(str(uuid4()), attempt, 1, expires)


def send(app: Celery, sent: Bundle, lane: str = "cpu", seconds: float = 60.0) -> Garbage:
    message = Garbage(celery_body(sent.to_message()), celery_headers(INFER, timelimit=[seconds, None]))
    garbage.publish(app, message, topology.REQUESTS, f"{lane}.wine")
    return message


def codes(result: BundleResult, jobs: Sequence[JobItem]) -> list[ErrorCode | None]:
    """The outcome of each job, in their order."""
    found = {(o.id, o.attempt): None if o.failure is None else o.failure.code for o in result.outcomes}
    assert len(found) == len(result.outcomes)
    return [found[item.id, item.attempt] for item in jobs]


def served(reports: Reports, app: Celery) -> None:
    """See that the worker serves the next bundle, and that nothing is left on the way."""
    after = bundle(job())
    send(app, after)
    assert codes(reports.result(after.id), after.jobs) == [None]
    assert rows.drain(app, "inference.cpu") == []
    assert buried(app) == []


@pytest.mark.parametrize("where", ["worker.received", "worker.before_predict", "worker.after_predict"])
def test_when_the_child_dies_its_parent_tells_and_the_message_is_done_with(
    broker_app: Celery, tmp_path: Path, where: str
) -> None:
    with worker(tmp_path, FAILPOINTS=f"{where}=kill") as running:
        reports = Reports(broker_app, running)
        killed = bundle(job(), job(3))
        send(broker_app, killed)
        result = reports.result(killed.id)
        assert codes(result, killed.jobs) == [ErrorCode.WORKER_LOST] * 2
        (failure, _) = [outcome.failure for outcome in result.outcomes]
        assert failure is not None
        assert failure.message.startswith("the worker died while it ran this: ")
        assert "SIGKILL" in failure.message or "process is gone" in failure.message
        assert result.run.worker.startswith("worker@")
        assert result.run.finished is not None
        served(reports, broker_app)
        assert [found.bundle for found in reports.results].count(killed.id) == 1


def test_a_death_after_the_result_changes_nothing_that_a_recorder_would_take(
    broker_app: Celery, tmp_path: Path
) -> None:
    """Before the acknowledgement: the parent can't know that the result is on its way already, which comes first."""
    with worker(tmp_path, FAILPOINTS="worker.before_ack=kill") as running:
        reports = Reports(broker_app, running)
        killed = bundle(job())
        send(broker_app, killed)
        wait_for(
            lambda: reports.read() or len([r for r in reports.results if r.bundle == killed.id]) == 2,
            PATIENCE_SECONDS,
            running.log,
        )
        assert [codes(result, killed.jobs) for result in reports.results] == [[None], [ErrorCode.WORKER_LOST]]
        served(reports, broker_app)


def test_a_child_that_hangs_is_ended_and_its_parent_tells(broker_app: Celery, tmp_path: Path) -> None:
    with worker(tmp_path, FAILPOINTS="worker.before_predict=sleep:300") as running:
        reports = Reports(broker_app, running)
        hangs = bundle(job(), job())
        send(broker_app, hangs, seconds=2.0)
        result = reports.result(hangs.id)
        assert codes(result, hangs.jobs) == [ErrorCode.TIMED_OUT] * 2
        assert result.outcomes[0].failure is not None
        assert result.outcomes[0].failure.message == "it ran longer than 2 s and was ended"
        served(reports, broker_app)
        assert [found.bundle for found in reports.results].count(hangs.id) == 1


def test_a_message_that_comes_a_second_time_is_not_run_but_handed_back(broker_app: Celery, tmp_path: Path) -> None:
    again = bundle(job(), job(2))
    send(broker_app, again)
    with rows.connect(broker_app) as connection, connection.channel() as channel:
        queue = rows.declared(broker_app, "inference.cpu")(channel)
        queue.get().requeue()
    # Would it run, it would die.
    with worker(tmp_path, FAILPOINTS="worker.before_predict=kill") as running:
        reports = Reports(broker_app, running)
        result = reports.result(again.id)
        assert codes(result, again.jobs) == [ErrorCode.WORKER_LOST] * 2
        assert result.outcomes[0].failure is not None
        assert result.outcomes[0].failure.message.startswith("the broker delivered it again")
        assert not (tmp_path / "run" / "failpoint.worker.before_predict").exists()


def test_when_parent_and_child_die_the_next_worker_hands_the_bundle_back(rabbitmq_app: Celery, tmp_path: Path) -> None:
    lost = bundle(job(), job())
    send(rabbitmq_app, lost)
    with worker(tmp_path, FAILPOINTS="worker.before_predict=kill-parent") as running:
        wait_for(lambda: not running.lives(), PATIENCE_SECONDS, running.log)
    with worker(tmp_path) as running:
        reports = Reports(rabbitmq_app, running)
        assert codes(reports.result(lost.id), lost.jobs) == [ErrorCode.WORKER_LOST] * 2
        served(reports, rabbitmq_app)


def test_when_the_parent_dies_before_it_could_tell_the_next_worker_hands_the_bundle_back(
    rabbitmq_app: Celery, tmp_path: Path
) -> None:
    lost = bundle(job())
    send(rabbitmq_app, lost)
    with worker(tmp_path, FAILPOINTS="worker.before_predict=kill,worker.before_report=kill") as running:
        wait_for(lambda: not running.lives(), PATIENCE_SECONDS, running.log)
    with worker(tmp_path) as running:
        reports = Reports(rabbitmq_app, running)
        assert codes(reports.result(lost.id), lost.jobs) == [ErrorCode.WORKER_LOST]


def test_what_came_too_late_is_not_run_and_the_others_of_its_bundle_are(broker_app: Celery, tmp_path: Path) -> None:
    late, good, later = job(expires=1.7e9), job(2, expires=4e9), job(expires=1.7e9)
    mixed, all_late = bundle(late, good, later), bundle(job(expires=1.7e9))
    with worker(tmp_path) as running:
        reports = Reports(broker_app, running)
        for sent in (mixed, all_late):
            send(broker_app, sent)
        assert codes(reports.result(mixed.id), mixed.jobs) == [ErrorCode.EXPIRED, None, ErrorCode.EXPIRED]
        assert codes(reports.result(all_late.id), all_late.jobs) == [ErrorCode.EXPIRED]
        alone = bundle(job())
        send(broker_app, alone)
        (expected,) = reports.result(alone.id).outcomes
        assert [o.outputs for o in reports.result(mixed.id).outcomes if o.id == good.id] == [expected.outputs]


def test_a_worker_of_an_isolation_lane_reads_nothing_else(broker_app: Celery, tmp_path: Path) -> None:
    usual, suspect = bundle(job()), bundle(job(2))
    send(broker_app, usual)
    send(broker_app, suspect, lane="isolated.cpu")
    with worker(tmp_path, "inference.cpu.isolated") as running:
        reports = Reports(broker_app, running)
        assert codes(reports.result(suspect.id), suspect.jobs) == [None]
        assert reports.heartbeat().pools == ("cpu.isolated",)
        assert [Bundle.from_message(message).id for message in rows.drain(broker_app, "inference.cpu")] == [usual.id]
