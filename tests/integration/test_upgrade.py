"""Old and new message version side by side: what an old worker can't read a new one answers; nothing is lost."""

from pathlib import Path

import pytest
from celery import Celery
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs import retry
from inference_portal.jobs.burial import Burial
from inference_portal.jobs.dispatch import Dispatcher
from inference_portal.jobs.models import Attempt, Job, ParkedMessage
from inference_portal.jobs.record import record_result
from inference_portal.jobs.states import State
from tests.integration import rows
from tests.integration.celery_process import PATIENCE_SECONDS, celery_process, worker
from tests.integration.rows import make_job
from tests.integration.test_burial import STOPPED, dead_letters
from tests.stack import wait_for
from workers import contract, topology
from workers.contract import BundleResult, ErrorCode
from workers.publisher import Publisher

pytestmark = pytest.mark.django_db


class Portal:
    """Dispatcher, burial and recorder of the next version, a step at a time."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self.publisher = Publisher(app)
        self._dispatcher = Dispatcher(self.publisher)

    def step(self) -> None:
        """Send what waits, as if its backoff were over; take what has come back, either way."""
        Job.objects.filter(state=State.RETRYING).update(not_before=timezone.now())
        self._dispatcher.step()
        with dead_letters(self._app) as (_, queue):
            while Burial(self._app).step(queue, STOPPED):
                pass
        for message in rows.drain(self._app, topology.RECORDER):
            if "outcomes" in message:
                record_result(BundleResult.from_message(message))


def test_what_an_old_worker_rejects_a_new_one_answers(
    team: Team, broker_app: Celery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contract, "VERSION", 2)
    # Here nobody waits between two tries, and the new worker needs a while to start.
    monkeypatch.setattr(retry, "REFUSED_ATTEMPTS", 10_000)
    portal = Portal(broker_app)
    jobs = [make_job(team) for _ in range(3)]
    with worker(tmp_path) as old:

        def were_refused() -> bool:
            portal.step()
            return Attempt.objects.count() >= len(jobs)

        wait_for(were_refused, PATIENCE_SECONDS, old.log)
        assert {attempt.code for attempt in Attempt.objects.all()} == {ErrorCode.MESSAGE_REFUSED}
        with celery_process("tests.integration.next_version", "inference.cpu", tmp_path / "new.log") as new:

            def are_done() -> bool:
                portal.step()
                return not Job.objects.exclude(state=State.SUCCEEDED).exists()

            wait_for(are_done, PATIENCE_SECONDS, lambda: old.log() + new.log())
            assert old.lives()
    portal.publisher.close()
    for job in jobs:
        job.refresh_from_db()
        # Nobody was suspected, and no attempt of the policy's used up.
        assert job.attempt > 1
        assert (job.isolated, job.failures) == (False, 0)
    assert not ParkedMessage.objects.exists()
