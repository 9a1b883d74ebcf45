"""GET /api/jobs/{id}/events/: server-sent events, each change once, until the end; the place is given back."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from inference_portal.accounts.models import Role, Team
from inference_portal.api import event_stream, events
from inference_portal.jobs import changes, waiting
from inference_portal.jobs import streams as jobs_streams
from inference_portal.jobs.models import Job
from inference_portal.jobs.record import record_result, record_started
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import FINAL, State
from inference_portal.jobs.streams import Jobs, Places, Streams
from tests.integration import rows
from tests.integration.http import client, hang_up, post, problem
from tests.integration.rows import make_final, make_job, make_sent
from workers.contract import ErrorCode, Run, Started

pytestmark = pytest.mark.django_db(transaction=True)
PLACES = 2
FEW = Streams(Places(PLACES), Jobs())


@pytest.fixture(autouse=True)
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[Streams]:
    """The process's streams, with few places; at the end of a test all of them are free."""
    monkeypatch.setattr(events, "streams", FEW)
    yield FEW
    assert free(FEW) == PLACES and not FEW._followers, "a place was not given back"


def free(streams: Streams) -> int:
    """Return how many places nobody has."""
    return int(streams.places._free._value)


def path(job: Job) -> str:
    return f"/api/jobs/{job.id}/events/"


class Reader:
    """Reads a stream in a thread, as a client does."""

    def __init__(self, sender: Client, job: Job, **headers: str) -> None:
        self.answer: Any = sender.get(path(job), headers=headers)
        assert self.answer.status_code == 200, self.answer.content
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.comments = 0
        self._more = threading.Condition()
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        try:
            for block in self.answer.streaming_content:
                lines = block.decode().strip("\n").split("\n")
                fields = dict(line.split(": ", 1) for line in lines if not line.startswith(":"))
                with self._more:
                    self.comments += lines[0].startswith(":")
                    if "data" in fields:
                        self.events.append((fields["id"], json.loads(fields["data"])))
                    self._more.notify_all()
        finally:
            connections.close_all()
            self.ended.set()

    def until(self, count: int) -> list[tuple[str, dict[str, Any]]]:
        """Wait for so many events."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.events) >= count, 20), self.events
        return self.events

    def until_the_end(self) -> list[str]:
        """Wait for the end of the stream, as a server closes it. Returns the ids of all events."""
        assert self.ended.wait(20), self.events
        hang_up(self.answer)
        return [event for event, _ in self.events]


def start(job: Job) -> None:
    run = Run(worker="cpu@host/7", host="host", device="cpu", started=time.time())
    assert record_started(Started("b", run, ((str(job.id), job.attempt),))) == 1


def end(job: Job) -> None:
    assert record_result(rows.result(rows.success(job))) == 1


def test_the_state_now_and_each_change_until_the_end(team: Team, submitter: Client) -> None:
    job = make_sent(team)
    reader = Reader(submitter, job)
    assert reader.answer["Content-Type"] == "text/event-stream"
    assert reader.answer["X-Inference-Id"] == str(job.id)
    assert (reader.answer["Cache-Control"], reader.answer["X-Accel-Buffering"]) == ("no-cache", "no")
    (first,) = reader.until(1)
    assert first == ("1-queued", submitter.get(job.status_path).json())
    start(job)
    assert reader.until(2)[1][0] == "1-running"
    end(job)
    assert reader.until_the_end() == ["1-queued", "1-running", "1-succeeded"]
    assert reader.events[-1][1] == submitter.get(job.status_path).json()


def test_an_attempt_that_failed_is_told_with_its_reason(team: Team, submitter: Client) -> None:
    job = make_sent(team)
    reader = Reader(submitter, job)
    reader.until(1)
    record_result(rows.result(rows.failure(job, ErrorCode.LEASE_EXPIRED)))
    event, status = reader.until(2)[1]
    assert (event, status["Attempts"], status["Error"]["code"]) == ("2-retrying", 2, "lease-expired")
    assert job_cancel(job_id=job.id)
    assert reader.until_the_end() == ["1-queued", "2-retrying", "2-cancelled"]


@pytest.mark.parametrize("state", sorted(FINAL))
def test_of_a_job_that_has_ended_the_end_is_told_at_once(team: Team, submitter: Client, state: State) -> None:
    job = make_final(team, state)
    begun = time.monotonic()
    answer = submitter.get(path(job))
    retry, event = b"".join(answer).decode().strip("\n").split("\n\n")
    assert retry == f"retry: {event_stream.RETRY}"
    assert event.startswith(f"id: 1-{state}\ndata: ")
    assert json.loads(event.split("data: ")[1])["State"] == state
    assert time.monotonic() - begun < 2


# A client that comes again


@pytest.mark.parametrize("state", sorted(FINAL))
def test_who_has_seen_the_end_gets_204(team: Team, submitter: Client, state: State) -> None:
    job = make_final(team, state, attempt=2)
    answer = submitter.get(path(job), headers={"Last-Event-ID": f"2-{state}"})
    assert (answer.status_code, answer.content) == (204, b"")
    # The end of another attempt was not this one.
    for last in (f"1-{state}", "2-queued", "", "nonsense", "\xff"):
        answer = submitter.get(path(job), headers={"Last-Event-ID": last})
        assert answer.status_code == 200
        assert f"id: 2-{state}\n" in b"".join(answer).decode()


def test_what_was_seen_is_not_told_again(team: Team, submitter: Client) -> None:
    job = make_sent(team)
    start(job)
    reader = Reader(submitter, job, **{"Last-Event-ID": "1-running"})
    time.sleep(0.3)
    end(job)
    assert reader.until_the_end() == ["1-succeeded"]


def test_after_a_rerun_there_is_something_to_tell_again(team: Team, submitter: Client) -> None:
    job = make_final(team, State.FAILED)
    seen = {"Last-Event-ID": "1-failed"}
    assert submitter.get(path(job), headers=seen).status_code == 204
    assert post(submitter, f"/api/jobs/{job.id}/rerun/").status_code == 202
    reader = Reader(submitter, job, **seen)
    assert reader.until(1)[0][0] == "2-queued"
    assert job_cancel(job_id=job.id)
    assert reader.until_the_end() == ["2-queued", "2-cancelled"]


# Who, and how many


def test_another_teams_job_does_not_exist(team: Team, submitter: Client) -> None:
    foreign = make_job(rows.make_team("other"))
    for job_id in (foreign.id, uuid4()):
        problem(submitter.get(f"/api/jobs/{job_id}/events/"), 404, "not-found")
    for reader in (client(team, Role.VIEWER), client(team, Role.OPERATOR)):
        hang_up(reader.get(path(make_job(team))))
    problem(Client().get(path(foreign)), 401, "unauthenticated")


def test_when_all_places_are_taken_the_next_is_told_and_a_place_comes_back(
    team: Team, submitter: Client, streams: Streams
) -> None:
    job = make_job(team)
    # Nobody has read a word of these.
    held = [submitter.get(path(job)) for _ in range(PLACES)]
    assert free(streams) == 0
    refused = submitter.get(path(job))
    problem(refused, 503, "no-place-to-wait")
    assert int(refused["Retry-After"]) >= 1
    hang_up(held.pop())
    assert free(streams) == 1
    again = submitter.get(path(job))
    assert again.status_code == 200
    for answer in (*held, again):
        hang_up(answer)
    assert free(streams) == PLACES and not streams._followers


def test_a_client_that_leaves_in_the_middle_gives_its_place_back(
    team: Team, submitter: Client, streams: Streams
) -> None:
    answer: Any = submitter.get(path(make_job(team)))
    body = iter(answer.streaming_content)
    assert next(body).startswith(b"retry:") and b"1-queued" in next(body)
    hang_up(answer)
    assert free(streams) == PLACES and not streams._followers


def test_an_end_that_was_seen_takes_no_place(team: Team, submitter: Client, streams: Streams) -> None:
    done, job = make_final(team, State.SUCCEEDED), make_job(team)
    held = [submitter.get(path(job)) for _ in range(PLACES)]
    assert submitter.get(path(done), headers={"Last-Event-ID": "1-succeeded"}).status_code == 204
    for answer in held:
        hang_up(answer)


def test_a_stream_with_nothing_to_tell_keeps_the_connection_alive(
    team: Team, submitter: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "KEEP_ALIVE_SECONDS", 0.1)
    job = make_job(team)
    reader = Reader(submitter, job)
    deadline = time.monotonic() + 10
    while reader.comments < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert reader.comments >= 3
    assert job_cancel(job_id=job.id)
    assert reader.until_the_end() == ["1-queued", "1-cancelled"]


def test_a_client_that_reads_slowly_holds_no_database_connection(team: Team, submitter: Client) -> None:
    answer: Any = submitter.get(path(make_job(team)))
    body = iter(answer.streaming_content)
    for expected in (b"retry:", b"1-queued"):
        assert expected in next(body)
        assert connection.connection is None
    hang_up(answer)


def test_two_clients_are_told_the_same_of_two_jobs_each_its_own(team: Team, submitter: Client) -> None:
    jobs = [make_sent(team), make_sent(team)]
    readers = [Reader(submitter, job) for job in jobs]
    for reader in readers:
        reader.until(1)
    for job in jobs:
        end(job)
    for job, reader in zip(jobs, readers, strict=True):
        assert reader.until_the_end() == ["1-queued", "1-succeeded"]
        assert {status["Id"] for _, status in reader.events} == {str(job.id)}


def test_changes_are_seen_soon(team: Team, submitter: Client) -> None:
    job = make_sent(team)
    reader = Reader(submitter, job)
    reader.until(1)
    begun = time.monotonic()
    start(job)
    reader.until(2)
    assert time.monotonic() - begun < jobs_streams.LOOK_SECONDS + 1.5
    begun = time.monotonic()
    end(job)
    reader.until_the_end()
    assert time.monotonic() - begun < jobs_streams.LOOK_SECONDS + 1.5


# The thread that looks for all of them


def until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def listeners() -> int:
    """Return how many connections listen for ends; this process's wait hub has one all the time."""
    with connection.cursor() as cursor:
        listening = "datname = current_database() AND query = %s"
        cursor.execute(f"SELECT count(*) FROM pg_stat_activity WHERE {listening}", [f"LISTEN {changes.FINAL}"])  # noqa: S608
        (count,) = cursor.fetchone()
    return int(count) - (waiting.hub._thread is not None)


def test_nobody_listens_while_nobody_follows(postgresql: None, team: Team, streams: Streams) -> None:
    """A connection that listens and never reads would fill PostgreSQL's queue of notifications."""
    job = make_job(team)
    until(lambda: listeners() == 0)
    for _ in range(2):
        with streams.follow(job):
            until(lambda: listeners() == 1)
        until(lambda: listeners() == 0)


def test_who_comes_while_the_last_one_leaves_is_told_too(team: Team, streams: Streams) -> None:
    for round_ in range(10):
        job = make_sent(team)
        with streams.follow(job) as follower:
            assert follower.next(5)
            # The thread is somewhere between the look and its end.
            time.sleep(round_ % 5 * 0.004)
        with streams.follow(job) as follower:
            assert follower.next(5)
            end(job)
            seen = follower.next(5)
            assert seen is not None and seen.state == State.SUCCEEDED


def test_of_a_job_that_has_not_changed_only_state_and_attempt_are_read(team: Team, streams: Streams) -> None:
    job = make_final(team, State.SUCCEEDED)
    with streams.follow(job), CaptureQueriesContext(connection) as queries:
        streams._look({job.id})
    (query,) = [each["sql"] for each in queries]
    assert "result" not in query and "reply" not in query


def test_ends_of_other_jobs_lead_to_no_look(postgresql: None, team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_streams, "LOOK_SECONDS", 60)
    own, others = make_sent(team), [make_sent(team) for _ in range(20)]
    looks: list[set[UUID]] = []
    streams = Streams(Places(1), Jobs())
    look = streams._look
    monkeypatch.setattr(streams, "_look", lambda ids: (looks.append(ids), look(ids)))
    with streams.follow(own) as follower:
        assert follower.next(5)
        until(lambda: len(looks) == 1)
        for other in others:
            end(other)
        end(own)
        seen = follower.next(5)
    assert seen is not None and seen.state == State.SUCCEEDED
    assert looks == [{own.id}] * 2
    # Its thread sees that nobody is left.
    changes.notify(changes.FINAL)
