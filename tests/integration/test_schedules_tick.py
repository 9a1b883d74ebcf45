"""The tick: each instant that is due becomes one batch, whoever looks, however late and however often."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from inference_portal.accounts.models import Team
from inference_portal.batches.models import Batch, BatchEvent, Chunk
from inference_portal.batches.models import Kind as EventKind
from inference_portal.batches.schedules.models import Kind, Outcome, Schedule, ScheduleRun
from inference_portal.batches.schedules.policy import MAX_MISSED
from inference_portal.batches.schedules.tick import tick
from inference_portal.batches.states import State
from inference_portal.celery import app
from inference_portal.jobs.models import Job
from tests.integration.rows import in_threads
from tests.integration.schedules import DAY, HOUR, START, batch, finish, folder, make_schedule, told

pytestmark = pytest.mark.django_db
# Half past two on the 21st, in Berlin.
FIRST = datetime(2030, 10, 21, 0, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_nothing_happens_before_it_is_due(team: Team) -> None:
    schedule = make_schedule(team)
    assert [tick(START), tick(FIRST - SECOND)] == [0, 0]
    assert told(schedule) == []


def test_a_run_that_is_due_becomes_a_batch(team: Team) -> None:
    schedule = make_schedule(
        team, batch=batch(team, keep_columns=["id"], retry_policy="none", deadline_seconds=10**8 / 50)
    )
    assert tick(FIRST + 3 * SECOND) == 1
    run = schedule.runs.get()
    made = Batch.objects.get()
    assert (run.outcome, run.batch_id, run.due_at, run.kind) == (Outcome.MADE, made.id, FIRST, Kind.PLANNED)
    assert (made.schedule_id, made.due_at, made.team, made.state) == (schedule.id, FIRST, team, State.QUEUED)
    assert made.input["uri"] == f"{folder(team)}/2030-10-21.parquet"
    assert (made.keep_columns, made.retry_policy, made.submitted_by) == (["id"], "none", "schedule nightly")
    assert made.deadline == FIRST + timedelta(seconds=2_000_000)
    assert list(Job.objects.values_list("step", "batch_id")) == [("plan", made.id)]
    schedule.refresh_from_db()
    assert (schedule.last_due_at, schedule.next_due_at) == (FIRST, FIRST + DAY)


def test_ten_ticks_at_once_after_a_pause_make_it_once(team: Team) -> None:
    schedule = make_schedule(team)
    assert [tick(FIRST + 60 * SECOND) for _ in range(10)] == [1] + [0] * 9
    assert told(schedule) == [("21 00:30", "made")]


@pytest.mark.django_db(transaction=True)
def test_many_ticks_at_the_same_time_make_each_run_once(team: Team) -> None:
    schedules = [make_schedule(team, name=f"number {n}") for n in range(4)]
    for night in range(3):
        now = FIRST + night * DAY
        made = in_threads(*[lambda now=now: tick(now)] * 8)
        assert sum(made) == len(schedules)
        finish()
    assert Batch.objects.count() == len(schedules) * 3
    for schedule in schedules:
        assert [outcome for _, outcome in told(schedule)] == ["made"] * 3


@pytest.mark.django_db(transaction=True)
def test_ticks_with_different_clocks_make_each_run_once(team: Team) -> None:
    schedule = make_schedule(team, cron="", every_seconds=60, overlap="queue", catch_up="all")
    for minute in range(1, 6):
        now = START + timedelta(minutes=minute)
        in_threads(*[lambda skew=skew, now=now: tick(now + skew * SECOND) for skew in (-130, -40, 0, 3, 61)])
        finish()
    for _ in range(6):
        tick(START + timedelta(minutes=6))
        finish()
    assert told(schedule) == [(f"20 12:0{minute}", "made") for minute in range(1, 7)]
    assert Batch.objects.count() == 6


def test_the_database_takes_no_second_run_of_an_instant(team: Team) -> None:
    schedule = make_schedule(team)
    tick(FIRST)
    made = Batch.objects.get()
    made.pk = None
    with pytest.raises(IntegrityError), transaction.atomic():
        made.save(force_insert=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        ScheduleRun.objects.create(schedule=schedule, due_at=FIRST, outcome=Outcome.WAITING)


def test_a_batch_that_somebody_else_has_made_is_the_run(team: Team) -> None:
    schedule = make_schedule(team)
    tick(FIRST)
    (made,) = Batch.objects.all()
    finish()
    # As if it had been restored from a backup: the batch is there, the run isn't known.
    schedule.runs.all().delete()
    Schedule.objects.update(handled_until=START, next_due_at=FIRST)
    tick(FIRST)
    assert Batch.objects.get() == made
    assert schedule.runs.get().batch_id == made.id


def test_the_night_of_the_shift_has_one_run(team: Team) -> None:
    schedule = make_schedule(team, start=datetime(2030, 10, 26, 12, tzinfo=UTC))
    moment = datetime(2030, 10, 26, 22, tzinfo=UTC)
    while moment < datetime(2030, 10, 27, 4, tzinfo=UTC):
        tick(moment)
        finish()
        moment += timedelta(minutes=10)
    assert told(schedule) == [("27 00:30", "made")]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [
        ("skip", ["skipped"] * 3),
        ("latest", ["skipped", "skipped", "made"]),
        ("all", ["made", "made", "made"]),
    ],
)
def test_after_downtime_catch_up_decides(team: Team, catch_up: str, expected: list[str]) -> None:
    schedule = make_schedule(team, catch_up=catch_up)
    now = FIRST + 2 * DAY + HOUR
    for _ in range(4):
        tick(now)
        finish()
    assert [outcome for _, outcome in told(schedule)] == expected
    assert all(run.why for run in schedule.runs.filter(outcome=Outcome.SKIPPED))


def test_what_is_caught_up_on_runs_one_after_the_other(team: Team) -> None:
    schedule = make_schedule(team, catch_up="all")
    now = FIRST + 2 * DAY + HOUR
    tick(now)
    assert told(schedule) == [("21 00:30", "made"), ("22 00:30", "waiting"), ("23 00:30", "waiting")]
    assert tick(now) == 0
    finish()
    assert tick(now) == 1
    assert told(schedule) == [("21 00:30", "made"), ("22 00:30", "made"), ("23 00:30", "waiting")]
    assert [made.input["uri"][-13:-8] for made in Batch.objects.order_by("due_at")] == ["10-21", "10-22"]


def test_of_a_month_of_downtime_the_last_runs_are_told(team: Team) -> None:
    schedule = make_schedule(team, cron="", every_seconds=60, catch_up="skip")
    tick(START + 30 * DAY)
    assert schedule.runs.count() == MAX_MISSED
    first = schedule.runs.order_by("due_at").first()
    assert first is not None
    assert "the ones before it" in first.why
    assert schedule.runs.filter(outcome=Outcome.MADE).count() == 1


def test_while_a_run_is_under_way_the_next_is_skipped(team: Team) -> None:
    schedule = make_schedule(team)
    tick(FIRST)
    assert tick(FIRST + DAY) == 0
    assert told(schedule) == [("21 00:30", "made"), ("22 00:30", "skipped")]
    finish()
    assert tick(FIRST + 2 * DAY) == 1


def test_or_waits_for_its_end(team: Team) -> None:
    schedule = make_schedule(team, overlap="queue")
    tick(FIRST)
    assert tick(FIRST + DAY) == 0
    assert told(schedule) == [("21 00:30", "made"), ("22 00:30", "waiting")]
    finish()
    assert tick(FIRST + DAY + HOUR) == 1
    assert told(schedule) == [("21 00:30", "made"), ("22 00:30", "made")]


def test_a_clock_that_is_put_back_makes_nothing_twice(team: Team) -> None:
    schedule = make_schedule(team)
    tick(FIRST + SECOND)
    finish()
    for back in (2 * SECOND, HOUR, 3 * DAY):
        assert tick(FIRST - back) == 0
    assert tick(FIRST + 2 * SECOND) == 0
    assert tick(FIRST + DAY) == 1
    assert told(schedule) == [("21 00:30", "made"), ("22 00:30", "made")]


def test_a_clock_that_was_years_ahead_for_a_moment_does_not_stop_the_schedule(team: Team) -> None:
    schedule = make_schedule(team)
    tick(START + 3650 * DAY)
    finish()
    for night in range(3):
        tick(FIRST + night * DAY)
        finish()
    made = list(schedule.runs.filter(outcome=Outcome.MADE).order_by("due_at").values_list("due_at", flat=True))
    assert made[:3] == [FIRST, FIRST + DAY, FIRST + 2 * DAY]
    assert len(made) == 4


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    moves=st.lists(st.integers(-200, 400), min_size=1, max_size=15),
    catch_up=st.sampled_from(["skip", "latest", "all"]),
    overlap=st.sampled_from(["skip", "queue"]),
    ends=st.booleans(),
)
def test_however_the_clock_jumps_each_instant_runs_at_most_once(
    team: Team, moves: list[int], catch_up: str, overlap: str, ends: bool
) -> None:
    with transaction.atomic():
        schedule = make_schedule(team, cron="", every_seconds=600, catch_up=catch_up, overlap=overlap)
        now = START
        for minutes in moves:
            now += timedelta(minutes=minutes)
            tick(now)
            if ends:
                finish()
        runs = list(schedule.runs.exclude(outcome=Outcome.SKIPPED))
        assert len({run.due_at for run in runs}) == len(runs)
        batches = list(Batch.objects.values_list("due_at", flat=True))
        assert len(set(batches)) == len(batches) == sum(run.outcome == Outcome.MADE for run in runs)
        assert Batch.objects.open().count() <= 1
        transaction.set_rollback(True)


def test_a_run_says_since_when_the_data_is_new(team: Team) -> None:
    uri = f"{folder(team)}/{{{{ since_last }}}}-{{{{ due }}}}.parquet"
    make_schedule(team, catch_up="skip", batch=batch(team, input={"uri": uri}))
    for now in (FIRST, FIRST + DAY + HOUR, FIRST + 2 * DAY):
        tick(now)
        finish()
    names = [made.input["uri"].rsplit("/", 1)[1] for made in Batch.objects.order_by("due_at")]
    # The second night was missed: its data belong to the third run.
    assert names == ["20301020T120000Z-20301021T003000Z.parquet", "20301021T003000Z-20301023T003000Z.parquet"]


def test_a_run_that_cannot_be_made_is_told_and_stops_no_other(team: Team) -> None:
    broken = make_schedule(team, name="a", batch=batch(team, model="gone"))
    # Not even readable any more, by a version of this code that is newer or older.
    unreadable = make_schedule(team, name="b")
    Schedule.objects.filter(id=unreadable.id).update(batch={"input": 7})
    works = make_schedule(team, name="c")
    assert tick(FIRST) == 1
    assert told(broken) == told(unreadable) == [("21 00:30", "refused")]
    assert told(works) == [("21 00:30", "made")]
    assert "gone" in broken.runs.get().why


def test_a_run_waits_until_the_team_has_room(team: Team, settings: Any) -> None:
    schedule = make_schedule(team)
    settings.MAX_OPEN_BATCHES = 0
    assert tick(FIRST) == 0
    assert told(schedule) == [("21 00:30", "waiting")]
    assert "open batches" in schedule.runs.get().why
    settings.MAX_OPEN_BATCHES = 10
    assert tick(FIRST + HOUR) == 1
    assert told(schedule) == [("21 00:30", "made")]


def test_a_schedule_that_is_turned_off_does_nothing(team: Team) -> None:
    schedule = make_schedule(team, enabled=False)
    assert tick(FIRST + DAY) == 0
    assert told(schedule) == []


def test_one_moment_runs_once(team: Team) -> None:
    schedule = make_schedule(team, at=FIRST)
    assert [tick(FIRST - SECOND), tick(FIRST), tick(FIRST + DAY)] == [0, 1, 0]
    schedule.refresh_from_db()
    assert schedule.next_due_at is None


def make_failed_chunks(made: Batch) -> None:
    """End it as the policy `none` does when two of its three chunks have failed."""
    for number, state in enumerate(("failed", "done", "failed")):
        source = {"file": made.input["uri"], "batches": [number, number + 1]}
        Chunk.objects.create(
            batch=made, number=number, first_row=10 * number, rows=10, source=source, state=state, rows_failed=10
        )
    plan = {"run": 1, "columns": [], "files": [[made.input["uri"], 1, "1"]], "output": "store://x", "ranges": 3}
    Batch.objects.filter(id=made.id).update(
        state=State.PARTIAL, finished_at=START, rows_total=30, rows_failed=20, chunks_total=3, plan=plan
    )


def test_what_failed_is_carried_into_the_next_run(team: Team) -> None:
    schedule = make_schedule(team, batch=batch(team, retry_policy="none"))
    tick(FIRST)
    first = Batch.objects.get()
    make_failed_chunks(first)
    tick(FIRST + DAY)
    second = Batch.objects.get(due_at=FIRST + DAY)
    assert second.carried["from"] == str(first.id)
    assert second.carried["rows"] == 20
    assert [each["source"]["batches"] for each in second.carried["ranges"]] == [[0, 1], [2, 3]]
    assert f"carries 20 rows that failed in batch {first.id}" in schedule.runs.get(due_at=FIRST + DAY).why
    finish()
    tick(FIRST + 2 * DAY)
    assert Batch.objects.get(due_at=FIRST + 2 * DAY).carried is None


def test_with_another_policy_nothing_is_carried(team: Team) -> None:
    make_schedule(team)
    tick(FIRST)
    make_failed_chunks(Batch.objects.get())
    tick(FIRST + DAY)
    assert Batch.objects.get(due_at=FIRST + DAY).carried is None


REHEARSAL = {"before_seconds": 6 * 3600, "rows": 100}


def test_a_rehearsal_runs_a_sample_ahead_of_the_run(team: Team) -> None:
    output = {"uri": "file:///nowhere/out.csv", "format": "csv"}
    schedule = make_schedule(team, rehearsal=REHEARSAL, batch=batch(team, error_threshold=0.1))
    Schedule.objects.update(batch={**schedule.batch, "output": output})
    before = FIRST - timedelta(hours=6)
    assert tick(before - SECOND) == 0
    assert [tick(before + SECOND), tick(before + 2 * SECOND), tick(FIRST - SECOND)] == [1, 0, 0]
    run, rehearsed = schedule.runs.get(), Batch.objects.get()
    assert (run.kind, run.due_at, run.batch_id, run.warnings) == (Kind.REHEARSAL, FIRST, rehearsed.id, [])
    assert (rehearsed.sample_rows, rehearsed.chunk_rows, rehearsed.error_threshold) == (100, 100, None)
    # It is in nobody's way: neither where the run will write, nor as the run of the instant.
    assert (rehearsed.output, rehearsed.schedule_id, rehearsed.due_at) == ({"uri": None, "format": "csv"}, None, None)
    assert BatchEvent.objects.get(batch=rehearsed).kind == EventKind.REHEARSAL
    Schedule.objects.update(batch=batch(team))
    assert tick(FIRST) == 1


def test_a_rehearsal_reads_the_data_of_the_run_before(team: Team) -> None:
    make_schedule(team, rehearsal=REHEARSAL)
    tick(FIRST)
    finish()
    tick(FIRST + DAY - HOUR)
    assert Batch.objects.get(due_at=None).input["uri"].endswith("/2030-10-21.parquet")


def test_a_rehearsal_warns_of_what_has_changed(team: Team) -> None:
    schedule = make_schedule(team, rehearsal=REHEARSAL)
    tick(FIRST)
    Batch.objects.update(sha256="0" * 64)
    finish()
    tick(FIRST + DAY - HOUR)
    warning = schedule.runs.get(kind=Kind.REHEARSAL, due_at=FIRST + DAY).warnings
    assert warning == ["The model file of version 1 has been replaced since the last run."]
    assert [event.text for event in BatchEvent.objects.filter(kind=EventKind.WARNING)] == warning


def test_a_rehearsal_of_what_cannot_run_says_so(team: Team) -> None:
    schedule = make_schedule(team, rehearsal=REHEARSAL, batch=batch(team, model="gone"))
    assert [tick(FIRST - HOUR), tick(FIRST - HOUR)] == [0, 0]
    run = schedule.runs.get()
    assert (run.kind, run.outcome) == (Kind.REHEARSAL, Outcome.REFUSED)
    assert "gone" in run.why


def test_a_run_says_that_its_rehearsal_failed(team: Team) -> None:
    make_schedule(team, rehearsal=REHEARSAL)
    tick(FIRST - HOUR)
    finish(state=State.FAILED, error_code="bad-data", error_message="no column 'alcohol'")
    tick(FIRST)
    warning = BatchEvent.objects.get(batch__due_at=FIRST, kind=EventKind.WARNING)
    assert "no column 'alcohol'" in warning.text


def test_beat_says_every_five_seconds_that_it_is_time_to_look(team: Team) -> None:
    entry = app.conf.beat_schedule["schedules-tick"]
    assert entry["schedule"] == 5.0
    app.loader.import_default_modules()
    make_schedule(team, start=datetime(2020, 1, 1, tzinfo=UTC), cron="", every_seconds=60)
    app.tasks[entry["task"]]()
    assert Batch.objects.count() == 1
