"""A batch from its submission to its end: what it is made of, each policy, thresholds, and what ends it early."""

from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.test import override_settings
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.batches import chunks, step_jobs
from inference_portal.batches.advance import advance
from inference_portal.batches.models import Batch, Chunk
from inference_portal.batches.services import batch_cancel, batch_new
from inference_portal.jobs.models import Job, Priority
from inference_portal.jobs.quota import Full
from inference_portal.jobs.record import record_result
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import State as JobState
from tests.integration import rows
from tests.integration.batches import (
    URI,
    Worker,
    as_result,
    caller,
    finish,
    make_batch,
    open_steps,
    states,
    told,
    until,
)
from workers.contract import ErrorCode, Failure, Outcome
from workers.formats import Invalid
from workers.model_store import UnknownModel

pytestmark = pytest.mark.django_db
BAD, LOST, AWAY = ErrorCode.BAD_DATA, ErrorCode.WORKER_LOST, ErrorCode.STORAGE_AWAY


def test_a_run_goes_through_its_steps_and_ends_with_a_receipt(team: Team) -> None:
    batch = make_batch(team, keep_columns=["id"], output={"format": "csv"})
    worker = Worker()
    assert open_steps(batch) == ["plan"]
    finish(batch, worker)
    assert (batch.state, batch.rows_total, batch.rows_done, batch.rows_failed) == ("succeeded", 35, 35, 0)
    assert (batch.chunks_total, batch.chunks_done, batch.attempt) == (4, 4, 1)
    assert worker.seen == {("plan", 0): 1, **{("chunk", n): 1 for n in range(4)}, ("merge", 0): 1, ("clean", 0): 1}
    assert told(batch) == ["started", "succeeded"]
    assert batch.receipt is not None
    assert batch.receipt["output"]["uri"] == f"store://batches/{batch.id}/output.csv"
    assert batch.receipt["engines"] == [{"device": "cpu", "libraries": "xgboost 3.2.0"}]
    assert (batch.receipt["rows"], batch.receipt["errors"], batch.receipt["version"]) == (35, None, batch.version)
    assert batch.cleaned_at is not None and batch.started_at is not None
    assert open_steps(batch) == []


def test_each_step_is_told_what_it_needs_and_no_more(team: Team) -> None:
    batch = make_batch(team, keep_columns=["id"])
    worker = Worker(rows=25, broken={1: [BAD] * 3})
    finish(batch, worker)
    work = {(each["step"], each.get("number", 0)): each for each in worker.works}
    uri, folder = URI.format(team.id), f"store://batches/{batch.id}"
    plan = work["plan", 0]
    assert (plan["input"]["uri"], plan["keep"], plan["chunk_rows"], plan["folder"]) == (uri, ["id"], 10, folder)
    chunk = work["chunk", 2]
    # Of the input's files only those that it reads.
    assert chunk["files"] == [[uri, 100, "v1"]]
    assert (chunk["first"], chunk["rows"], chunk["run"], chunk["format"]) == (20, 5, 1, "parquet")
    assert chunk["source"] == {"parts": [{"file": uri, "skip": 20}]}
    parts = work["merge", 0]["parts"]
    assert parts[0] == {"number": 0, "first": 0, "rows": 10, "state": "done", "source": {}}
    reason = "bad-data: chunk broke"
    assert parts[1] == {"number": 1, "first": 10, "rows": 10, "state": "failed", "reason": reason, "source": {
        "parts": [{"file": uri, "skip": 10}]
    }}  # fmt: skip
    assert work["merge", 0]["errors"] == f"{folder}/errors.csv"


def test_a_reason_has_a_length_as_each_row_of_its_chunk_has_it(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "MAX_REASON", 12)
    batch = make_batch(team, retry_policy="none")
    finish(batch, Worker(broken={1: [BAD]}))
    assert batch.chunks.get(number=1).reason == "bad-data: ch"


def test_its_jobs_are_of_the_batch_pool_and_behind_all_others(team: Team) -> None:
    batch = make_batch(team)
    until(batch, lambda batch: batch.state == "running", Worker())
    for job in Job.objects.filter(batch_id=batch.id):
        assert (job.pool, job.priority) == ("batch", Priority.LOW)
        assert job.timeout_seconds == (60 + job.rows / 1000 if job.step == "chunk" else 900)
        assert (job.model, job.version, job.sha256, job.team_id) == ("wine", "1", batch.sha256, team.id)
    assert sorted(Job.objects.filter(step="chunk").values_list("rows", flat=True)) == [5, 10, 10, 10]


# What breaks -> policy -> state, attempt of the batch, rows that failed, chunks' (state, attempt), tries of chunk 1.
OK = ("done", 1)
POLICIES: list[tuple[str, list[Any], str, int, int, dict[int, tuple[str, int]], int]] = [
    ("partial", [BAD], "succeeded", 1, 0, {1: ("done", 2)}, 2),
    ("partial", [BAD, BAD], "succeeded", 1, 0, {1: ("done", 3)}, 3),
    ("partial", [BAD, BAD, BAD], "partial", 1, 10, {1: ("failed", 3)}, 3),
    ("none", [BAD], "partial", 1, 10, {1: ("failed", 1)}, 1),
    ("all", [BAD], "succeeded", 2, 0, {}, 2),
    ("all", [BAD, BAD], "succeeded", 3, 0, {}, 3),
    ("all", [BAD, BAD, BAD], "failed", 3, 0, {1: ("open", 1)}, 3),
]


@pytest.mark.parametrize(("policy", "broken", "state", "attempt", "failed", "chunk", "tries"), POLICIES)
def test_each_policy_deals_with_a_failed_chunk_in_its_way(
    team: Team,
    policy: str,
    broken: list[Any],
    state: str,
    attempt: int,
    failed: int,
    chunk: dict[int, tuple[str, int]],
    tries: int,
) -> None:
    batch = make_batch(team, retry_policy=policy)
    worker = Worker(broken={1: list(broken)})
    finish(batch, worker)
    assert (batch.state, batch.attempt, batch.rows_failed) == (state, attempt, failed)
    assert states(batch)[1] == chunk.get(1, OK)
    assert worker.seen["chunk", 1] == tries
    assert worker.seen["plan", 0] == attempt
    if state == "failed":
        assert batch.error_code == "chunk-failed"
        assert worker.seen["merge", 0] == 0
    else:
        # With `partial` what was done is not done again.
        assert worker.seen["chunk", 0] == attempt
        assert worker.seen["merge", 0] == 1
    assert open_steps(batch) == []


def test_people_are_told_of_failed_chunks_and_new_attempts(team: Team) -> None:
    partial = make_batch(team, retry_policy="partial", max_attempts=2)
    finish(partial, Worker(broken={1: [BAD, BAD]}))
    assert told(partial) == ["started", "chunk-retried", "chunk-failed", "partial"]
    assert partial.events.get(kind="chunk-failed").text == "chunk 1: bad-data: chunk broke"
    anew = make_batch(team, retry_policy="all")
    finish(anew, Worker(broken={1: [BAD]}))
    assert told(anew) == ["started", "chunk-failed", "started-anew", "started", "succeeded"]


def test_of_a_chunk_that_took_too_long_it_is_told_that_smaller_ones_may_not(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_portal.jobs.record.timedelta", lambda seconds: timedelta(0))
    batch = make_batch(team, retry_policy="none")
    finish(batch, Worker(broken={1: [ErrorCode.TIMED_OUT] * 4}))
    text = batch.events.get(kind="chunk-failed").text
    assert text.startswith("chunk 1: timed-out: ")
    assert text.endswith("run it with smaller chunks (chunk_rows)")


def test_parts_stay_where_a_rerun_could_go_on_with_them(team: Team) -> None:
    failed_chunk = finish(make_batch(team, retry_policy="none"), Worker(broken={1: [BAD]}))
    failed_row = finish(make_batch(team), Worker(faults={1: 1}))
    assert (failed_chunk.state, failed_chunk.cleaned_at) == ("partial", None)
    assert failed_row.state == "partial" and failed_row.cleaned_at is not None


def test_rows_that_failed_are_counted_and_told(team: Team) -> None:
    batch = make_batch(team)
    finish(batch, Worker(faults={0: 2, 3: 1}))
    assert (batch.state, batch.rows_failed, batch.rows_done) == ("partial", 3, 35)
    assert batch.receipt is not None and batch.receipt["errors"]["rows"] == 3
    assert {c.number: c.rows_failed for c in batch.chunks.all()} == {0: 2, 1: 0, 2: 0, 3: 1}


@pytest.mark.parametrize(
    ("threshold", "faults", "state"),
    [(0.1, 3, "partial"), (0.1, 4, "failed"), (0.0, 1, "failed"), (None, 10, "partial")],
)
def test_more_errors_than_the_threshold_allows_end_the_run_early(
    team: Team, threshold: float | None, faults: int, state: str
) -> None:
    batch = make_batch(team, error_threshold=threshold)
    worker = Worker(faults={0: faults})
    until(batch, lambda batch: batch.state == "running", worker)
    worker.work(1)
    advance()
    if state == "failed":
        batch.refresh_from_db()
        assert (batch.state, batch.error_code) == ("failed", "too-many-errors")
        assert open_steps(batch) == []
        assert worker.seen["chunk", 3] == 0
    else:
        assert finish(batch, worker).state == state


def test_without_any_prediction_there_is_no_output(team: Team) -> None:
    for worker in (Worker(rows=20, faults={0: 10, 1: 10}), Worker(rows=20, broken={0: [BAD] * 3, 1: [BAD] * 3})):
        batch = finish(make_batch(team), worker)
        assert (batch.state, batch.error_code) == ("failed", "all-rows-failed")
        assert worker.seen["merge", 0] == 0


@pytest.mark.parametrize("step", ["plan", "merge"])
@pytest.mark.parametrize(
    ("broken", "code"),
    [([BAD], "bad-data"), ([{"rows": 1}], "step-failed"), ([LOST] + [LOST] * 3, "worker-lost"), ([[1]], "step-failed")],
)
def test_a_plan_or_a_merge_that_fails_ends_the_run(
    team: Team, step: str, broken: list[Any], code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_portal.jobs.record.timedelta", lambda seconds: timedelta(0))
    batch = make_batch(team)
    finish(batch, Worker(broken={step: list(broken)}))
    assert (batch.state, batch.error_code, batch.receipt) == ("failed", code, None)
    assert batch.error_message
    assert open_steps(batch) == []


def test_an_output_with_another_number_of_rows_is_no_success(team: Team) -> None:
    wrong = {"uri": "u", "rows": 34, "failed": 0, "bytes": 1, "sha256": "x", "errors": None}
    batch = finish(make_batch(team), Worker(broken={"merge": [wrong]}))
    assert (batch.state, batch.error_code) == ("failed", "step-failed")
    assert batch.error_message == "the output has 34 of 35 rows"


def test_a_chunk_whose_worker_wrote_another_number_of_rows_has_failed(team: Team) -> None:
    short = {"rows": 9, "failed": 0, "sha256": "x"}
    batch = make_batch(team, retry_policy="none")
    finish(batch, Worker(broken={1: [short], 2: [{"rows": 10, "failed": 11}]}))
    assert (batch.state, batch.rows_failed) == ("partial", 20)
    assert batch.chunks.get(number=1).reason == "a worker wrote 9 of 10 rows"


def test_a_chunk_that_kills_its_workers_is_a_dead_letter_until_it_is_tried_again(
    team: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inference_portal.jobs.record.timedelta", lambda seconds: timedelta(0))
    batch = make_batch(team, max_attempts=2)
    deaths = 1 + 3  # once beside others, then alone
    worker = Worker(broken={1: [LOST] * deaths})
    until(batch, lambda _: Job.objects.dead_letters().exists(), worker)
    finish(batch, worker)
    assert batch.state == "succeeded"
    assert worker.seen["chunk", 1] == deaths + 1
    assert not Job.objects.dead_letters().exists()
    last = make_batch(team, max_attempts=1)
    finish(last, Worker(broken={1: [LOST] * deaths}))
    assert last.state == "partial"
    # Nobody has tried it again: it waits for a person.
    assert [job.step for job in Job.objects.dead_letters()] == ["chunk"]


def test_a_storage_that_is_away_costs_no_attempt_of_the_chunk(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inference_portal.jobs.record.timedelta", lambda seconds: timedelta(0))
    batch = make_batch(team, max_attempts=1)
    worker = Worker(broken={1: [AWAY, AWAY], "plan": [AWAY], "merge": [AWAY]})
    assert finish(batch, worker).state == "succeeded"
    assert states(batch)[1] == ("done", 1)


def test_a_step_that_somebody_cancelled_counts_as_failed(team: Team) -> None:
    batch = make_batch(team, retry_policy="none")
    worker = Worker()
    until(batch, lambda batch: batch.state == "running", worker)
    job_cancel(job_id=batch.chunks.get(number=2).job_id)
    finish(batch, worker)
    assert (batch.state, batch.rows_failed) == ("partial", 10)
    assert batch.chunks.get(number=2).reason == "its job was cancelled"


@pytest.mark.parametrize("at", ["queued", "running", "merging"])
def test_a_job_that_is_gone_is_made_again(team: Team, at: str) -> None:
    batch, worker = make_batch(team), Worker()
    until(batch, lambda batch: batch.state == at, worker)
    Job.objects.filter(batch_id=batch.id, finished_at=None).delete()
    assert finish(batch, worker).state == "succeeded"


@pytest.mark.parametrize("at", ["queued", "running", "merging"])
def test_a_cancelled_run_ends_at_once_with_all_that_is_under_way(team: Team, at: str) -> None:
    batch, worker = make_batch(team), Worker()
    until(batch, lambda batch: batch.state == at, worker)
    assert batch_cancel(batch_id=batch.id, caller=caller(team))
    assert not batch_cancel(batch_id=batch.id, caller=caller(team))
    batch.refresh_from_db()
    assert (batch.state, open_steps(batch), told(batch)[-1]) == ("cancelled", [], "cancelled")
    assert worker.work() == 0
    before = Batch.objects.values().get(id=batch.id)
    advance()
    assert Batch.objects.values().get(id=batch.id) == before


@pytest.mark.parametrize("at", ["queued", "running", "merging"])
def test_at_its_deadline_a_run_fails_with_what_was_done(team: Team, at: str) -> None:
    batch, worker = make_batch(team, deadline=timezone.now() + timedelta(hours=1)), Worker()
    until(batch, lambda batch: batch.state == at, worker)
    Batch.objects.update(deadline=timezone.now())
    advance()
    batch.refresh_from_db()
    assert (batch.state, batch.error_code, open_steps(batch)) == ("failed", "deadline-passed", [])
    assert "UTC, " in batch.error_message


def test_an_output_that_was_there_before_the_deadline_counts(team: Team) -> None:
    batch, worker = make_batch(team, deadline=timezone.now() + timedelta(hours=1)), Worker()
    until(batch, lambda batch: batch.state == "merging", worker)
    worker.work()
    Batch.objects.update(deadline=timezone.now())
    advance()
    batch.refresh_from_db()
    assert batch.state == "succeeded"


def test_a_result_that_comes_twice_or_late_counts_once(team: Team) -> None:
    batch, worker = make_batch(team), Worker(faults={1: 4})
    until(batch, lambda batch: batch.state == "running", worker)
    job = Job.objects.get(id=batch.chunks.get(number=1).job_id)
    outcome = worker.outcome(job)
    late = Outcome(str(job.id), job.attempt, failure=Failure(BAD, "late"))
    assert [record_result(as_result(each)) for each in (outcome, outcome, late)] == [1, 0, 0]
    advance()
    advance()
    assert record_result(as_result(outcome)) == 0
    batch.refresh_from_db()
    assert (batch.rows_done, batch.rows_failed, batch.chunks_done) == (10, 4, 1)
    assert finish(batch, worker).rows_failed == 4


def test_a_step_of_an_attempt_before_changes_nothing(team: Team) -> None:
    batch, worker = make_batch(team, retry_policy="all"), Worker(broken={0: [BAD]})
    until(batch, lambda batch: batch.state == "running", worker)
    late = Job.objects.get(id=batch.chunks.get(number=3).job_id)
    worker.work(1)
    advance()
    batch.refresh_from_db()
    assert (batch.state, batch.attempt) == ("queued", 2)
    assert Job.objects.get(id=late.id).state == JobState.CANCELLED
    assert finish(batch, worker).state == "succeeded"
    assert not Chunk.objects.filter(job_id=late.id).exists()


def test_no_worker_means_that_it_waits_and_goes_on_when_one_comes(team: Team) -> None:
    batch = make_batch(team)
    for _ in range(3):
        advance()
    batch.refresh_from_db()
    assert (batch.state, open_steps(batch)) == ("queued", ["plan"])
    assert finish(batch, Worker()).state == "succeeded"


def test_a_run_is_pinned_to_the_release_of_its_submission(team: Team) -> None:
    batch = batch_new(caller=caller(team), model="wine", input={"uri": URI.format(team.id)})
    assert (batch.version, len(batch.sha256)) == ("1", 64)
    with pytest.raises(UnknownModel):
        batch_new(caller=caller(team), model="beer", input={"uri": URI.format(team.id)})
    with pytest.raises(UnknownModel):
        batch_new(caller=caller(team), model="wine", version="7", input={"uri": URI.format(team.id)})


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"chunk_rows": 0}, "/chunk_rows"),
        ({"chunk_rows": 1_000_001}, "/chunk_rows"),
        ({"max_attempts": 0}, "/max_attempts"),
        ({"max_attempts": 21}, "/max_attempts"),
        ({"error_threshold": -0.1}, "/error_threshold"),
        ({"error_threshold": 1.1}, "/error_threshold"),
        ({"error_threshold": float("nan")}, "/error_threshold"),
        ({"retry_policy": "some"}, "/retry_policy"),
        ({"deadline": timezone.now() - timedelta(seconds=1)}, "/deadline"),
        ({"deadline": timezone.now().replace(tzinfo=None) + timedelta(days=1)}, "/deadline"),
        ({"keep_columns": ["a", "a"]}, "/keep_columns/1"),
        ({"keep_columns": ["a\0"]}, "/keep_columns/0"),
        ({"keep_columns": ["\ud800"]}, "/keep_columns/0"),
        ({"keep_columns": [7]}, "/keep_columns/0"),
        ({"keep_columns": ["a"] * 1001}, "/keep_columns"),
        ({"output": {"format": "arrow"}}, "/output/format"),
        ({"output": {"where": "x"}}, "/output/where"),
        ({"output": {"uri": "store://batches/x/y"}}, "/output/uri"),
        ({"output": {"uri": "file:///etc/passwd"}}, "/output/uri"),
        ({"output": {"uri": 7}}, "/output/uri"),
        ({"input": {}}, "/input/uri"),
        ({"input": {"uri": "file:///etc/passwd"}}, "/input/uri"),
        ({"input": {"uri": "ftp://x"}}, "/input/uri"),
        ({"input": {"uri": "store://uploads/0/x"}}, "/input/uri"),
        ({"input": {"uri": "store://batches/0/x"}}, "/input/uri"),
        ({"input": {"uri": "store://secrets"}}, "/input/uri"),
        ({"input": {"uri": "store://uploads/1/../2/x"}}, "/input/uri"),
    ],
)
def test_what_can_not_be_is_refused_with_its_field(team: Team, fields: dict[str, Any], pointer: str) -> None:
    with pytest.raises(Invalid) as refused:
        make_batch(team, **fields)
    assert refused.value.faults[0].pointer == pointer
    assert not Batch.objects.exists() and not Job.objects.exists()


def test_a_batch_reads_the_output_of_another_one_of_its_team_only(team: Team) -> None:
    batch = make_batch(team)
    uri = f"store://batches/{batch.id}/output.parquet"
    assert make_batch(team, input={"uri": uri}).input["uri"] == uri
    with pytest.raises(Invalid, match="your team has nothing at"):
        make_batch(rows.make_team("other"), input={"uri": uri})


@override_settings(MAX_OPEN_BATCHES=2)
def test_a_team_has_so_many_open_batches_at_most(team: Team) -> None:
    first, _ = make_batch(team), make_batch(team)
    with pytest.raises(Full) as full:
        make_batch(team)
    assert full.value.of_team
    assert Batch.objects.count() == Job.objects.count() == 2
    make_batch(rows.make_team("other"))
    batch_cancel(batch_id=first.id, caller=caller(team))
    make_batch(team)


def test_the_messages_of_a_large_run_stay_small(team: Team) -> None:
    batch = make_batch(team, chunk_rows=1)
    worker = Worker(rows=300)
    until(batch, lambda batch: batch.state == "merging", worker, rounds=100)
    assert len(bytes(Job.objects.get(id=step_jobs.merge_id(batch)).input)) < 100 * 300
    assert orjson.loads(bytes(Job.objects.get(id=step_jobs.merge_id(batch)).input))["run"] == 1
