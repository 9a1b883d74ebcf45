"""What is forgotten and when, what never is, and that nobody else is in the way of it."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference_portal.accounts.models import ApiKey, Team
from inference_portal.deliveries.models import Delivery
from inference_portal.jobs import retention
from inference_portal.jobs.models import Action, Attempt, AuditEntry, Job, ParkedMessage
from inference_portal.jobs.retention import STEP, purge
from inference_portal.jobs.states import FINAL, State
from tests.integration import rows
from tests.integration.deliveries import make_delivery
from tests.integration.rows import in_threads, make_final, make_job, make_running, whole

pytestmark = [pytest.mark.django_db]
LATE = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _times(settings: Any) -> None:
    settings.RESULT_RETENTION_HOURS = 48.0
    settings.RECORD_RETENTION_DAYS = 10.0


def ended(team: Team, state: State = State.SUCCEEDED, *, days: float, **fields: Any) -> Job:
    """Store a job that ended so many days (and a second) ago, with a failed attempt."""
    job = make_final(team, state, finished_at=timezone.now() - timedelta(days=days) - LATE, **fields)
    now = timezone.now()
    Attempt.objects.create(job=job, number=1, code="timed-out", message="m", traceback="t", host="h", finished_at=now)
    return job


def purged(team: Team, *, days: float, since_days: float = 1.0) -> Job:
    """Store a job whose payload is gone."""
    moment = timezone.now() - timedelta(days=since_days)
    return ended(team, days=days, input=b"", result=None, purged_at=moment)


def many(team: Team, count: int, **fields: Any) -> None:
    moment = timezone.now() - timedelta(days=5)
    usual = {"state": State.SUCCEEDED, "result": b"[]", "finished_at": moment}
    Job.objects.bulk_create([rows.new_job(team, **{**usual, **fields}) for _ in range(count)])


@pytest.mark.parametrize("state", sorted(FINAL - {State.DEAD_LETTERED}))
def test_what_a_job_held_goes_first_and_what_happened_stays(team: Team, state: State) -> None:
    job = ended(team, state, days=2)
    before = whole(job.id)
    moment = timezone.now()
    assert purge() == 1
    after = whole(job.id)
    gone = {"input": b"", "result": None, "purged_at": after["purged_at"]}
    assert after["purged_at"] >= moment
    assert after["attempts"] == [{**before["attempts"][0], "message": "", "traceback": ""}]
    del before["attempts"], after["attempts"]
    assert after == before | gone
    assert purge() == 0
    assert whole(job.id)["purged_at"] == after["purged_at"]


def test_later_the_record_and_its_attempts_go_too(team: Team) -> None:
    job, kept = purged(team, days=10), purged(team, days=9.9)
    assert purge() == 1
    assert list(Job.objects.all()) == [kept]
    assert [attempt.job_id for attempt in Attempt.objects.all()] == [kept.id]
    _, key = ApiKey.objects.create_key(name="key", team=team)
    client = Client(headers={"Authorization": f"Bearer {key}"})
    for path in (f"/status/wine/{job.id}", f"/result/wine/{job.id}", f"/api/jobs/{job.id}/"):
        assert client.get(path).status_code == 404
    assert client.get(f"/result/wine/{kept.id}").status_code == 410


def test_what_is_young_or_open_is_left_alone(team: Team) -> None:
    long_ago = timezone.now() - timedelta(days=400)
    jobs = [ended(team, state, days=1.9) for state in FINAL]
    jobs += [make_job(team, accepted_at=long_ago), make_job(team, state=State.RETRYING, accepted_at=long_ago)]
    jobs += [make_running(team, accepted_at=long_ago), purged(team, days=9)]
    before = [whole(job.id) for job in jobs]
    assert purge() == 0
    assert [whole(job.id) for job in jobs] == before


def test_a_dead_letter_waits_for_a_person_however_long_that_takes(team: Team) -> None:
    waiting = ended(team, State.DEAD_LETTERED, days=400)
    let_go = ended(team, State.DEAD_LETTERED, days=400, discarded_at=timezone.now())
    before = whole(waiting.id)
    assert purge() == 1
    assert purge() == 1
    assert list(Job.objects.all()) == [waiting]
    assert whole(waiting.id) == before
    Job.objects.filter(id=waiting.id).update(discarded_at=timezone.now())
    assert (purge(), purge(), purge()) == (1, 1, 0)
    assert not Job.objects.filter(id__in=[waiting.id, let_go.id]).exists()


def test_a_dead_letter_that_was_discarded_late_holds_up_no_other(team: Team) -> None:
    purged(team, days=9, since_days=8)
    late = purged(team, days=400, since_days=0)
    assert purge() == 0  # its turn is after what was purged before it
    Job.objects.exclude(id=late.id).update(finished_at=timezone.now() - timedelta(days=11))
    assert purge() == 2


def parked(*, days: float, discarded: bool) -> ParkedMessage:
    moment = timezone.now() - timedelta(days=days) - LATE
    message = ParkedMessage.objects.create(
        digest=f"{days}{discarded}", queue="q", reason="rejected", error="e", headers="{}", body=b"b", size=1,
        discarded_at=moment if discarded else None,
    )  # fmt: skip
    ParkedMessage.objects.filter(id=message.id).update(received_at=moment)
    return message


def test_a_discarded_message_goes_and_one_that_waits_stays() -> None:
    old, young, waiting = (
        parked(days=10, discarded=True),
        parked(days=9, discarded=True),
        parked(days=99, discarded=False),
    )
    assert purge() == 1
    assert set(ParkedMessage.objects.values_list("id", flat=True)) == {young.id, waiting.id}
    assert old.id not in (young.id, waiting.id)


def test_the_audit_log_stays(team: Team) -> None:
    job = purged(team, days=400)
    AuditEntry.objects.create(who="x", action=Action.DISCARD, job_id=job.id)
    AuditEntry.objects.update(at=timezone.now() - timedelta(days=9999))
    assert purge() == 1
    assert AuditEntry.objects.get().job_id == job.id


@pytest.mark.parametrize(
    ("hours", "days", "after_one", "after_two"),
    [
        (0.0, 0.0, "kept", "kept"),
        (48.0, 0.0, "purged", "purged"),
        (0.0, 10.0, "purged", "deleted"),
        (48.0, 1.0, "purged", "deleted"),
        (9999.0, 10.0, "purged", "deleted"),
    ],
)
def test_zero_is_for_ever_and_a_record_never_outlives_its_time_because_of_its_result(
    team: Team, hours: float, days: float, after_one: str, after_two: str
) -> None:
    job = ended(team, days=400)
    parked(days=400, discarded=True)

    def found() -> str:
        row = Job.objects.filter(id=job.id).first()
        return "deleted" if row is None else "kept" if row.purged_at is None else "purged"

    with override_settings(RESULT_RETENTION_HOURS=hours, RECORD_RETENTION_DAYS=days):
        purge()
        assert found() == after_one
        purge()
        assert found() == after_two
        assert purge() == 0
    assert ParkedMessage.objects.exists() == (days == 0)


def test_longer_times_count_for_what_was_purged_before_they_were_set(team: Team) -> None:
    purged(team, days=15, since_days=13)
    with override_settings(RECORD_RETENTION_DAYS=20.0):
        assert purge() == 0
    assert purge() == 1


def test_it_goes_in_steps_and_each_kind_has_its_turn(team: Team) -> None:
    many(team, STEP + 30)
    assert purge() == STEP
    assert Job.objects.filter(purged_at=None).count() == 30
    Job.objects.filter(purged_at__isnull=False).update(finished_at=timezone.now() - timedelta(days=11))
    Job.objects.filter(purged_at__isnull=False, id__in=Job.objects.filter(purged_at__isnull=False)[:480]).delete()
    parked(days=10, discarded=True)
    assert purge() == 20 + 30 + 1
    assert purge() == 0


def test_the_oldest_go_first(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "STEP", 2)
    jobs = [ended(team, days=days) for days in (5, 9, 3, 7)]
    assert purge() == 2
    assert set(Job.objects.filter(purged_at=None)) == {jobs[0], jobs[2]}


def test_with_nothing_to_do_it_looks_three_times_and_opens_no_transaction(team: Team) -> None:
    ended(team, days=1)
    purged(team, days=5)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert purge() == 0
    assert [query["sql"].split()[0] for query in queries] == ["SELECT"] * 3


def test_payloads_are_not_read_to_be_removed(team: Team) -> None:
    ended(team, days=3)
    purged(team, days=11)
    with CaptureQueriesContext(connection) as queries:
        assert purge() == 2
    read = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    assert read and not any('"input"' in sql or '"result"' in sql or '"body"' in sql for sql in read)


@pytest.mark.django_db(transaction=True)
def test_two_at_once_do_each_row_once(team: Team) -> None:
    many(team, 700)
    many(team, 300, purged_at=timezone.now(), result=None, finished_at=timezone.now() - timedelta(days=11))

    def until_nothing_is_left() -> int:
        done = 0
        while step := purge():
            done += step
        return done

    done = in_threads(*[until_nothing_is_left] * 4)
    assert sum(done) == 300 + 700
    assert Job.objects.count() == Job.objects.filter(purged_at__isnull=False, result=None).count() == 700


@pytest.mark.django_db(transaction=True)
def test_a_row_that_somebody_holds_is_passed_over_and_not_waited_for(team: Team, postgresql: None) -> None:
    held, free = ended(team, days=4), ended(team, days=3)
    with transaction.atomic():
        Job.objects.select_for_update().get(id=held.id)
        assert in_threads(purge) == [1]
    assert list(Job.objects.filter(purged_at=None)) == [held]
    assert purge() == 1
    assert Job.objects.get(id=free.id).purged_at is not None


def test_what_is_still_to_be_told_of_a_job_keeps_it(team: Team) -> None:
    told, over = ended(team, days=20, keeps_result=False), ended(team, days=20)
    failed = purged(team, days=20)
    for job, state in ((told, "retrying"), (over, "delivered"), (failed, "pending")):
        delivery = make_delivery(team)
        due = None if state == "delivered" else timezone.now()
        Delivery.objects.filter(id=delivery.id).update(job=job, state=state, due_at=due, finished_at=None)
    assert purge() == 1
    assert whole(told.id)["result"]
    assert set(Job.objects.filter(purged_at=None).values_list("id", flat=True)) == {told.id}
    Delivery.objects.update(state="failed", due_at=None, finished_at=timezone.now())
    while purge():
        pass
    assert not Job.objects.exists()
    assert not Delivery.objects.exists()
