"""What people change: a run's policy and deadline while it is open, and a rerun of one that has ended."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.test import override_settings
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.batches.advance import advance
from inference_portal.batches.carried import carried_from
from inference_portal.batches.models import Batch
from inference_portal.batches.services import Due, batch_cancel, batch_change, batch_rerun
from inference_portal.jobs.models import Job
from inference_portal.jobs.quota import Full
from inference_portal.jobs.rerun import NotWaiting
from inference_portal.jobs.turns import Lane
from tests.integration import rows
from tests.integration.batches import Worker, caller, finish, make_batch, open_steps, states, told, until
from workers.contract import ErrorCode
from workers.formats import Invalid

pytestmark = pytest.mark.django_db
BAD = ErrorCode.BAD_DATA


def rerun(batch: Batch, policy: str = "partial") -> Batch:
    batch_rerun(batch_id=batch.id, caller=caller(batch.team), retry_policy=policy)
    batch.refresh_from_db()
    return batch


def test_a_partial_rerun_runs_only_what_failed(team: Team) -> None:
    worker = Worker(broken={1: [BAD]}, faults={3: 2})
    batch = finish(make_batch(team, retry_policy="none"), worker)
    assert (batch.state, batch.rows_failed) == ("partial", 12)
    rerun(batch)
    assert (batch.state, batch.attempt, batch.retry_policy, batch.finished_at) == ("running", 2, "partial", None)
    assert (batch.rows_done, batch.rows_failed, batch.chunks_done, batch.receipt) == (25, 2, 3, None)
    finish(batch, worker)
    assert (batch.state, batch.rows_failed, batch.rows_done) == ("partial", 2, 35)
    assert {number: worker.seen["chunk", number] for number in range(4)} == {0: 1, 1: 2, 2: 1, 3: 1}
    # The parts of the attempt before are merged with the new ones.
    assert {work["run"] for work in worker.works if work["step"] in ("chunk", "merge")} == {1}
    assert batch.cleaned_at is not None


def test_each_rerun_has_all_its_attempts(team: Team) -> None:
    worker = Worker(broken={1: [BAD] * 8})
    batch = finish(make_batch(team), worker)
    assert worker.seen["chunk", 1] == 3
    finish(rerun(batch), worker)
    assert (batch.state, worker.seen["chunk", 1]) == ("partial", 6)
    finish(rerun(batch), worker)
    assert (batch.state, worker.seen["chunk", 1], batch.attempt) == ("succeeded", 9, 3)


def test_a_rerun_of_all_begins_with_the_plan(team: Team) -> None:
    worker = Worker()
    batch = finish(make_batch(team), worker)
    worker.rows = 15
    rerun(batch, "all")
    assert (batch.state, batch.attempt, batch.plan, batch.rows_total, batch.cleaned_at) == (
        "queued",
        2,
        None,
        None,
        None,
    )
    finish(batch, worker)
    assert (batch.state, batch.rows_total, batch.chunks_total, batch.chunks.count()) == ("succeeded", 15, 2, 2)
    assert worker.seen["plan", 0] == 2
    assert {work["run"] for work in worker.works if work["step"] == "merge"} == {1, 2}


def test_after_a_failed_plan_any_rerun_begins_with_it(team: Team) -> None:
    worker = Worker(broken={"plan": [BAD]})
    batch = finish(make_batch(team), worker)
    assert batch.state == "failed"
    assert finish(rerun(batch), worker).state == "succeeded"


def test_after_a_failed_merge_a_partial_rerun_only_merges(team: Team) -> None:
    worker = Worker(broken={"merge": [BAD]})
    batch = finish(make_batch(team), worker)
    assert batch.state == "failed"
    assert finish(rerun(batch), worker).state == "succeeded"
    assert (worker.seen["merge", 0], worker.seen["chunk", 0], worker.seen["plan", 0]) == (2, 1, 1)


@pytest.mark.parametrize("at", ["queued", "running", "merging"])
@pytest.mark.parametrize("policy", ["partial", "all"])
def test_a_cancelled_run_goes_on(team: Team, at: str, policy: str) -> None:
    batch, worker = make_batch(team), Worker()
    until(batch, lambda batch: batch.state == at, worker)
    if at == "running":
        worker.work(2)
    batch_cancel(batch_id=batch.id, caller=caller(team))
    batch.refresh_from_db()
    assert finish(rerun(batch, policy), worker).state == "succeeded"
    assert batch.rows_done == 35


def test_a_deadline_that_has_passed_is_dropped(team: Team) -> None:
    batch, worker = make_batch(team, deadline=timezone.now() + timedelta(hours=1)), Worker()
    Batch.objects.update(deadline=timezone.now())
    advance()
    batch.refresh_from_db()
    assert batch.error_code == "deadline-passed"
    assert rerun(batch).deadline is None
    assert finish(batch, worker).state == "succeeded"


def test_a_rerun_is_refused_with_what_to_do_instead(team: Team) -> None:
    batch, worker = make_batch(team), Worker(faults={1: 1})
    with pytest.raises(NotWaiting, match="only one that has ended"):
        rerun(batch)
    finish(batch, worker)
    before = Batch.objects.values().get(id=batch.id)
    with pytest.raises(NotWaiting, match="every chunk of it is done; run it again with 'all'"):
        rerun(batch)
    with pytest.raises(Invalid, match="expected one of partial, all"):
        rerun(batch, "none")
    with override_settings(MAX_OPEN_BATCHES=1):
        make_batch(team)
        with pytest.raises(Full):
            rerun(batch, "all")
    succeeded = Batch.objects.exclude(id=batch.id).get()
    finish(succeeded, Worker())
    with pytest.raises(NotWaiting):
        rerun(succeeded)
    assert Batch.objects.values().get(id=batch.id) == before


def test_while_its_files_are_being_removed_a_run_can_not_begin_again(team: Team) -> None:
    batch, worker = make_batch(team), Worker()
    until(batch, lambda batch: batch.is_final, worker)
    assert open_steps(batch) == ["clean"]
    rows.take({Lane("batch", False): 1})
    with pytest.raises(NotWaiting, match="being removed"):
        rerun(batch, "all")
    Job.objects.filter(step="clean").update(lease_until=None, bundle=None)
    rerun(batch, "all")
    # The step that wasn't sent is not done any more.
    assert open_steps(batch) == ["plan"]


@pytest.mark.parametrize(
    ("policy", "chunk", "state"), [("partial", ("done", 2), "running"), ("all", ("done", 1), "queued")]
)
def test_another_policy_decides_again_about_what_has_failed(
    team: Team, policy: str, chunk: tuple[str, int], state: str
) -> None:
    batch, worker = make_batch(team, retry_policy="none"), Worker(broken={0: [BAD]})
    until(batch, lambda batch: batch.state == "running", worker)
    worker.work(1)
    advance()
    assert states(batch)[0] == ("failed", 1)
    batch_change(batch_id=batch.id, caller=caller(team), retry_policy=policy)
    batch.refresh_from_db()
    assert (batch.rows_done, batch.rows_failed, batch.chunks_done) == (0, 0, 0)
    advance()
    batch.refresh_from_db()
    assert batch.state == state
    assert finish(batch, worker).state == "succeeded"
    assert states(batch)[0] == chunk


def test_to_none_while_it_runs_means_that_nothing_is_tried_again(team: Team) -> None:
    batch, worker = make_batch(team), Worker(broken={0: [BAD] * 9})
    until(batch, lambda batch: batch.state == "running", worker)
    batch_change(batch_id=batch.id, caller=caller(team), retry_policy="none")
    assert finish(batch, worker).state == "partial"
    assert worker.seen["chunk", 0] == 1
    assert "changed" in told(batch)


def test_a_deadline_is_set_moved_and_taken_back(team: Team) -> None:
    batch, moment = make_batch(team), timezone.now() + timedelta(hours=1)
    for deadline in (moment, moment + timedelta(hours=1), None):
        changed = batch_change(batch_id=batch.id, caller=caller(team), deadline=deadline)
        batch.refresh_from_db()
        assert batch.deadline == changed.deadline == deadline
    assert told(batch) == ["changed"] * 3
    batch_change(batch_id=batch.id, caller=caller(team), deadline=None)
    assert told(batch) == ["changed"] * 3


@pytest.mark.parametrize("fields", [{"retry_policy": "x"}, {"deadline": timezone.now()}])
def test_a_change_to_what_can_not_be_is_refused(team: Team, fields: dict[str, Any]) -> None:
    batch = make_batch(team)
    with pytest.raises(Invalid):
        batch_change(batch_id=batch.id, caller=caller(team), **fields)


def test_what_has_no_effect_any_more_is_refused(team: Team) -> None:
    batch, worker = make_batch(team), Worker()
    until(batch, lambda batch: batch.state == "merging", worker)
    with pytest.raises(NotWaiting, match="nothing left"):
        batch_change(batch_id=batch.id, caller=caller(team), retry_policy="all")
    finish(batch, worker)
    with pytest.raises(NotWaiting, match="only an open one"):
        batch_change(batch_id=batch.id, caller=caller(team), deadline=None)


def test_what_failed_is_carried_into_the_next_run_of_the_schedule(team: Team) -> None:
    schedule, moment = uuid4(), timezone.now()
    first = finish(
        make_batch(team, retry_policy="none", due=Due(schedule, moment)), Worker(broken={1: [BAD], 3: [BAD]})
    )
    carried = carried_from(first)
    assert carried is not None
    assert (carried["from"], carried["rows"], len(carried["ranges"])) == (str(first.id), 15, 2)
    worker = Worker(rows=20, broken={3: [BAD]})
    due = Due(schedule, moment + timedelta(days=1), carried)
    other = f"store://uploads/{team.id}/y/rows.parquet"
    second = finish(make_batch(team, retry_policy="none", due=due, input={"uri": other}), worker)
    assert (second.state, second.rows_total, second.rows_failed) == ("partial", 35, 5)
    assert f"15 rows of them carried over from batch {first.id}" in second.events.get(kind="started").text
    chunk = next(work for work in worker.works if work.get("number") == 2)
    assert (chunk["first"], chunk["rows"], chunk["input"]["uri"]) == (20, 10, first.input["uri"])
    assert chunk["files"] == [[first.input["uri"], 100, "v1"]]
    parts = next(work for work in worker.works if work["step"] == "merge")["parts"]
    assert parts[3]["input"]["uri"] == first.input["uri"]
    # What fails again goes on to the one after.
    again = carried_from(second)
    assert again is not None and (again["from"], again["rows"]) == (str(second.id), 5)
    assert again["ranges"][0]["input"]["uri"] == first.input["uri"]


def test_a_run_without_an_output_hands_on_what_it_had_taken_over(team: Team) -> None:
    first = finish(make_batch(team, retry_policy="none"), Worker(broken={1: [BAD]}))
    due = Due(uuid4(), timezone.now(), carried_from(first))
    second = finish(make_batch(team, retry_policy="none", due=due), Worker(broken={"plan": [BAD]}))
    assert carried_from(second) == carried_from(first) is not None
    assert carried_from(finish(make_batch(team), Worker(broken={1: [BAD] * 3}))) is None


def test_an_instant_of_a_schedule_has_one_run(team: Team) -> None:
    due = Due(uuid4(), timezone.now())
    make_batch(team, due=due)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_batch(team, due=due)
    assert Batch.objects.count() == Job.objects.count() == 1
