"""What is forgotten of old batches, and when."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.batches import retention
from inference_portal.batches.models import Batch, BatchEvent, Chunk
from inference_portal.batches.retention import forget
from inference_portal.batches.services import batch_rerun
from inference_portal.jobs.models import Job
from inference_portal.jobs.rerun import NotWaiting
from tests.integration.batches import Worker, caller, finish, make_batch, told
from tests.integration.rows import in_threads
from tests.integration.schedules import make_schedule
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db
BAD = ErrorCode.BAD_DATA


@pytest.fixture(autouse=True)
def _times(settings: Any) -> None:
    settings.RESULT_RETENTION_HOURS = 48.0
    settings.RECORD_RETENTION_DAYS = 10.0


def ended(team: Team, *, days: float, **broken: Any) -> Batch:
    batch = finish(make_batch(team, retry_policy="none"), Worker(broken={1: [BAD]}))
    Batch.objects.filter(id=batch.id).update(finished_at=timezone.now() - timedelta(days=days, seconds=1))
    batch.refresh_from_db()
    return batch


def test_first_the_folder_goes_then_the_record(team: Team) -> None:
    batch, young = ended(team, days=2), ended(team, days=1.9)
    assert forget() == 1
    batch.refresh_from_db()
    young.refresh_from_db()
    assert batch.purged_at is not None and batch.cleaned_at is not None and told(batch)[-1] == "purged"
    assert young.purged_at is None
    worker = Worker()
    worker.work()
    assert worker.works[0]["everything"] is True
    assert worker.works[0]["folder"] == f"store://batches/{batch.id}"
    with pytest.raises(NotWaiting, match="its parts are removed; run it again with 'all'"):
        batch_rerun(batch_id=batch.id, caller=caller(team), retry_policy="partial")
    assert forget() == 0
    Batch.objects.filter(id=batch.id).update(finished_at=timezone.now() - timedelta(days=11))
    while forget():
        pass
    assert list(Batch.objects.all()) == [young]
    for table in (Chunk, BatchEvent, Job):
        assert not table._default_manager.filter(batch_id=batch.id).exists()
        assert table._default_manager.filter(batch_id=young.id).exists()


def test_what_the_next_run_of_a_schedule_takes_over_stays_until_there_is_one(team: Team) -> None:
    schedule = make_schedule(team)
    first = ended(team, days=30)
    Batch.objects.filter(id=first.id).update(schedule_id=schedule.id, due_at=timezone.now() - timedelta(days=30))
    assert forget() == 0
    second = ended(team, days=1)
    Batch.objects.filter(id=second.id).update(schedule_id=schedule.id, due_at=timezone.now() - timedelta(days=1))
    assert forget() == 1
    first.refresh_from_db()
    assert first.purged_at is not None
    Batch.objects.filter(id=second.id).update(finished_at=timezone.now() - timedelta(days=3))
    assert forget() == 0
    schedule.delete()
    assert forget() == 1


def test_open_batches_stay_however_old(team: Team) -> None:
    make_batch(team)
    Batch.objects.update(created_at=timezone.now() - timedelta(days=999))
    assert forget() == 0


def test_a_record_stays_until_its_folder_is_gone(team: Team) -> None:
    batch = ended(team, days=11)
    assert forget() == 1
    assert forget() == 0  # the step has not been done
    worker = Worker(broken={"clean": [BAD]})
    worker.work()
    assert forget() == 0
    assert Batch.objects.filter(id=batch.id).exists()
    # It failed and is tried again, once a day.
    assert worker.work() == 1
    while forget():
        pass
    assert not Batch.objects.exists() and not Job.objects.exists()


def test_zero_is_for_ever(team: Team, settings: Any) -> None:
    ended(team, days=999)
    settings.RESULT_RETENTION_HOURS = settings.RECORD_RETENTION_DAYS = 0.0
    assert forget() == 0
    settings.RECORD_RETENTION_DAYS = 10.0
    assert forget() == 1


def test_a_rerun_begins_a_new_life(team: Team) -> None:
    batch = ended(team, days=3)
    forget()
    Worker().work()
    batch_rerun(batch_id=batch.id, caller=caller(team), retry_policy="all")
    finish(batch, Worker())
    assert (batch.state, batch.purged_at) == ("succeeded", None)
    assert forget() == 0


def test_with_nothing_to_do_it_looks_twice(team: Team) -> None:
    ended(team, days=1)
    with CaptureQueriesContext(connection) as queries:
        assert forget() == 0
    assert [query["sql"].split()[0] for query in queries] == ["SELECT", "SELECT"]


def test_it_goes_in_steps(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCHES", 2)
    monkeypatch.setattr(retention, "ROWS", 3)
    for _ in range(3):
        ended(team, days=3)
    assert (forget(), forget(), forget()) == (2, 1, 0)


@pytest.mark.django_db(transaction=True)
def test_two_at_once_do_each_once(team: Team) -> None:
    batches = [ended(team, days=3) for _ in range(6)]
    assert sum(in_threads(*[forget] * 4)) >= 6
    while forget():
        pass
    for batch in batches:
        assert told(batch).count("purged") == 1
    assert Job.objects.filter(step="clean", finished_at=None).count() == 6
