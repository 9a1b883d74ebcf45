"""Dying between any two statements, two at once, and very many chunks: no step is lost, none counts twice."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.batches import chunks, look
from inference_portal.batches.advance import advance
from inference_portal.batches.models import Batch, BatchEvent, Chunk
from inference_portal.batches.services import batch_accept, batch_cancel, batch_new, batch_rerun
from inference_portal.jobs.models import Job
from tests.integration.batches import URI, Worker, caller, finish, make_batch, told, until
from tests.integration.rows import in_threads
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db
BAD = ErrorCode.BAD_DATA


class Died(BaseException):
    """The process is gone."""


@contextmanager
def dies_after(statements: int) -> Iterator[None]:
    """Die before the statement after so many."""
    left = statements

    def run(execute: Callable[..., Any], *args: Any) -> Any:
        nonlocal left
        if left == 0:
            raise Died
        left -= 1
        return execute(*args)

    with connection.execute_wrapper(run):
        yield


def everything() -> dict[str, list[Any]]:
    """All that is stored, but for times."""
    batches = Batch.objects.values("state", "attempt", "rows_done", "rows_failed", "chunks_done", "plan", "note")
    jobs = Job.objects.order_by("id").values("id", "state", "attempt", "step", "input")
    return {
        "batches": list(batches),
        "chunks": list(Chunk.objects.order_by("number").values("number", "state", "attempt", "job_id", "rows_failed")),
        "jobs": [{**job, "input": bytes(job["input"])} for job in jobs],
        "events": list(BatchEvent.objects.order_by("id").values("kind", "text")),
    }


def dies_everywhere(act: Callable[[], object]) -> int:
    """Do something after dying at each of its statements, each time with nothing left behind. Returns how many."""
    for statements in range(200):
        before = everything()
        try:
            with dies_after(statements):
                act()
        except Died:
            assert everything() == before
        else:
            return statements
    raise AssertionError("it never ends")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("policy", ["partial", "all", "none"])
def test_whoever_advances_may_die_before_any_statement(team: Team, policy: str) -> None:
    batch = make_batch(team, retry_policy=policy)
    worker = Worker(rows=20, broken={1: [BAD]}, faults={0: 1})
    deaths = 0
    for _ in range(20):
        deaths += dies_everywhere(advance)
        worker.work()
    batch.refresh_from_db()
    assert (batch.state, batch.rows_done, batch.rows_failed) == ("partial", 20, 11 if policy == "none" else 1)
    assert worker.seen["merge", 0] == 1
    assert worker.seen["chunk", 1] == (1 if policy == "none" else 2)
    assert deaths > 60


@pytest.mark.django_db(transaction=True)
def test_whoever_submits_cancels_or_reruns_may_die_too(team: Team) -> None:
    batch = batch_new(caller=caller(team), model="wine", input={"uri": URI.format(team.id)}, chunk_rows=10)

    def accept() -> None:
        batch._state.adding = True
        batch_accept(batch=batch)

    assert dies_everywhere(accept) > 2
    worker = Worker(broken={1: [BAD] * 9})
    until(batch, lambda batch: batch.state == "running", worker)
    assert dies_everywhere(lambda: batch_cancel(batch_id=batch.id, caller=caller(team))) > 2
    for policy, state in (("partial", "partial"), ("all", "failed")):
        deaths = dies_everywhere(lambda p=policy: batch_rerun(batch_id=batch.id, caller=caller(team), retry_policy=p))
        assert deaths > 4
        assert finish(batch, worker).state == state


@pytest.mark.django_db(transaction=True)
def test_what_the_database_does_not_store_ends_its_batch_and_no_other(team: Team, postgresql: None) -> None:
    broken, other, worker = make_batch(team), make_batch(team), Worker()
    plan = worker._plan({"input": broken.input, "output": broken.output, "chunk_rows": 10, "folder": broken.folder})
    worker.broken["plan"] = [plan | {"columns": ["a\0"]}]
    both = [finish(batch, worker) for batch in (broken, other)]
    assert sorted(batch.state for batch in both) == ["failed", "succeeded"]
    assert next(batch.error_message for batch in both if batch.error_message).startswith("What a step of it")


@pytest.mark.django_db(transaction=True)
def test_two_that_advance_at_once_do_each_thing_once(team: Team) -> None:
    batches = [make_batch(team, chunk_rows=1) for _ in range(3)]
    worker = Worker(rows=40, faults={7: 1}, broken={3: [BAD]})
    for _ in range(60):
        in_threads(*[advance] * 4)
        worker.work()
        if not Batch.objects.open().exists():
            break
    for batch in batches:
        batch.refresh_from_db()
        assert (batch.state, batch.rows_done, batch.rows_failed, batch.chunks_done) == ("partial", 40, 1, 40)
        assert [kind for kind in told(batch) if kind != "chunk-retried"] == ["started", "partial"]
        assert Job.objects.filter(batch_id=batch.id, step="merge").count() == 1
    assert sum(worker.seen["chunk", number] for number in range(40)) == 3 * 40 + 1


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_somebody_holds_is_passed_over_and_not_waited_for(team: Team, postgresql: None) -> None:
    held, free = make_batch(team), make_batch(team)
    Worker().work()
    with transaction.atomic():
        Batch.objects.select_for_update().get(id=held.id)
        assert in_threads(advance) == [1]
    free.refresh_from_db()
    assert free.state == "running"


@pytest.mark.django_db(transaction=True)
def test_a_team_that_submits_at_once_stays_within_its_number(team: Team, settings: Any) -> None:
    settings.MAX_OPEN_BATCHES = 5

    def submit() -> bool:
        try:
            make_batch(team)
        except RuntimeError:
            return False
        return True

    assert sum(in_threads(*[submit] * 12)) == 5
    assert Batch.objects.count() == 5


def test_one_batch_that_can_not_be_moved_holds_up_no_other(team: Team) -> None:
    broken, fine = make_batch(team), make_batch(team)
    Worker().work()
    Batch.objects.filter(id=broken.id).update(carried={"nonsense": 1})
    for _ in range(3):
        advance()
    broken.refresh_from_db()
    fine.refresh_from_db()
    assert (broken.state, fine.state) == ("queued", "running")


def test_only_so_many_chunks_have_jobs_at_once(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "LEAST_WINDOW", 8)
    monkeypatch.setattr(chunks, "ROWS_PER_CALL", 50)
    monkeypatch.setattr(chunks, "JOBS_PER_CALL", 6)
    batch, worker = make_batch(team, chunk_rows=1), Worker(rows=120, broken={5: [BAD]})
    most = 0
    while not batch.is_final:
        advance()
        most = max(most, Job.objects.filter(step="chunk", finished_at=None).count())
        worker.work(3)
        batch.refresh_from_db()
    assert (batch.state, batch.rows_done, most) == ("succeeded", 120, 8)
    assert all(worker.seen["chunk", number] == 1 + (number == 5) for number in range(120))


def test_a_look_with_nothing_to_do_is_one_statement_whatever_there_is(team: Team) -> None:
    batch, worker = make_batch(team, chunk_rows=1), Worker(rows=500)
    until(batch, lambda batch: batch.state == "running", worker)
    while advance():
        pass
    with CaptureQueriesContext(connection) as queries:
        assert advance() == 0
    assert len(queries) == 2  # the workers, and the batches


def test_very_many_chunks_are_made_in_steps_that_stay_small(team: Team) -> None:
    batch, worker = make_batch(team, chunk_rows=1), Worker(rows=5_000)
    worker.work()
    most_chunks = most_jobs = made = sent = 0
    while advance():
        now_made, now_sent = batch.chunks.count(), Job.objects.filter(step="chunk").count()
        most_chunks, most_jobs = max(most_chunks, now_made - made), max(most_jobs, now_sent - sent)
        made, sent = now_made, now_sent
    batch.refresh_from_db()
    assert (batch.state, made, sent) == ("running", 5_000, chunks.LEAST_WINDOW)
    assert (most_chunks, most_jobs) == (chunks.ROWS_PER_CALL, chunks.JOBS_PER_CALL)
    with CaptureQueriesContext(connection) as queries:
        assert look.ready(timezone.now(), chunks.LEAST_WINDOW) == []
    assert len(queries) == 1
