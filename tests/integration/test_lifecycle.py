"""What a client may ask for about a job's life (priority, time to live, ordering key), and how that life is told."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import ApiKey, Team
from inference_portal.api import job_options
from inference_portal.jobs.models import Attempt, Job, Priority
from inference_portal.jobs.position import POSITION_LIMIT, queue_position
from inference_portal.jobs.states import State
from inference_portal.jobs.sweep import expire
from tests.integration import rows
from tests.integration.rows import in_threads, make_final, make_job, make_running, make_sent, take
from tests.stack import wait_for
from workers.formats import Invalid, Malformed

pytestmark = pytest.mark.django_db
ROW = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
INFER = "/v2/models/wine/infer"


@pytest.fixture
def submitter(team: Team) -> Client:
    _, key = ApiKey.objects.create_key(name="key", team=team)
    return Client(headers={"Authorization": f"Bearer {key}"})


def infer(sender: Client, **headers: str) -> Any:
    """Send one row to …/infer; `_` in a header's name stands for `-`."""
    named = {"Prefer": "respond-async"} | {name.replace("_", "-"): value for name, value in headers.items()}
    return sender.post(INFER, {"instances": [ROW]}, content_type="application/json", headers=named)


def create(sender: Client, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    """Send one row to /api/jobs/."""
    body = {"model": "wine", "rows": [ROW], **fields}
    return sender.post("/api/jobs/", body, content_type="application/json", headers=headers or {})


# What may be asked for


def test_headers_and_fields_say_the_same(submitter: Client) -> None:
    before = timezone.now()
    by_header = infer(submitter, X_Inference_Priority="high", X_Inference_Ttl="90.5", X_Inference_Ordering_Key="a b")
    by_field = create(submitter, priority="high", ttl_seconds=90.5, ordering_key="a b")
    after = timezone.now()
    for answer in (by_header, by_field):
        assert answer.status_code == 202, answer.content
        job = Job.objects.get(id=answer.json()["Id"])
        assert (job.priority, job.ordering_key) == (Priority.HIGH, "a b")
        assert before + timedelta(seconds=90.5) <= job.expires_at <= after + timedelta(seconds=90.5)


def test_a_job_that_asks_for_nothing_is_as_all_are(submitter: Client) -> None:
    nothing = {"priority": None, "ttl_seconds": None, "ordering_key": None}
    for answer in (infer(submitter), create(submitter), create(submitter, **nothing)):
        job = Job.objects.get(id=answer.json()["Id"])
        assert (job.priority, job.expires_at, job.ordering_key) == (Priority.NORMAL, None, "")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        *(("X-Inference-Priority", v) for v in ("", "HIGH", "urgent", "0", "high,low", " high")),
        *(
            ("X-Inference-Ttl", v)
            for v in ("", "0", "0.0", "-1", "+5", "1e3", "1h", "nan", "inf", "2592000.1", "9" * 400)
        ),
        *(("X-Inference-Ttl", v) for v in ("1,2", "0x10", "1_000", ".5", "5.", "٣", "1.0000000001")),
        *(("X-Inference-Ordering-Key", v) for v in ("", "x" * 256, "tab\there", "bell\a", "caf\xe9", "caf\xc3\xa9")),
    ],
)
def test_a_header_that_makes_no_sense_is_named_and_nothing_is_queued(
    submitter: Client, header: str, value: str
) -> None:
    answer = infer(submitter, **{header: value})
    assert answer.status_code == 400, answer.content
    assert answer.json()["type"] == "/problems/malformed"
    assert header in answer.json()["detail"]
    assert not Job.objects.exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("priority", v) for v in ("", "High", 0, 1, True, ["high"], {"a": 1})),
        *(("ttl_seconds", v) for v in (0, -1, "60", True, [1], 2_592_001, 1e300, 10**400, float("nan"), float("inf"))),
        *(("ordering_key", v) for v in ("", "x" * 256, 5, True, ["a"], "a\nb", "a\0b", "\ud800", "a\u2028b", "\x7f")),
    ],
)
def test_a_field_that_makes_no_sense_is_pointed_to_and_nothing_is_queued(
    submitter: Client, field: str, value: Any
) -> None:
    answer = create(submitter, **{field: value})
    assert answer.status_code == 422, answer.content
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{field}"]
    assert not Job.objects.exists()


def test_all_wrong_fields_are_named_at_once(submitter: Client) -> None:
    answer = create(submitter, priority="x", ttl_seconds=0, ordering_key="")
    assert [e["pointer"] for e in answer.json()["errors"]] == ["/priority", "/ttl_seconds", "/ordering_key"]


@pytest.mark.parametrize(("ttl", "seconds"), [("0.000000001", 0.0), ("1", 1.0), ("2592000", 2_592_000.0)])
def test_the_shortest_and_the_longest_time_to_live(ttl: str, seconds: float) -> None:
    read = job_options.from_headers({"X-Inference-Ttl": ttl})["ttl"]
    assert read == job_options.from_fields({"ttl_seconds": float(ttl)})["ttl"] == timedelta(seconds=seconds)


def test_a_key_may_be_long_and_in_any_script(submitter: Client) -> None:
    longest = ("Schlüssel 鍵 " * 25)[: job_options.MAX_KEY_LENGTH]
    job_id = create(submitter, ordering_key=longest).json()["Id"]
    assert Job.objects.get(id=job_id).ordering_key == longest
    assert submitter.get(f"/api/jobs/{job_id}/").json()["ordering_key"] == longest


def test_the_parser_refuses_in_the_way_of_its_source() -> None:
    with pytest.raises(Malformed, match="X-Inference-Ttl: expected a number of seconds"):
        job_options.from_headers({"X-Inference-Ttl": "soon"})
    with pytest.raises(Invalid, match="/ttl_seconds: expected a number of seconds"):
        job_options.from_fields({"ttl_seconds": "soon"})


@pytest.mark.parametrize("header", sorted(job_options.HEADERS))
def test_on_the_path_of_the_fields_a_header_is_refused_and_says_which_field(submitter: Client, header: str) -> None:
    answer = create(submitter, {header: "high"})
    assert (answer.status_code, answer.json()["type"]) == (422, "/problems/not-available")
    assert job_options.HEADERS[header] in answer.json()["detail"]
    assert not Job.objects.exists()


# What they do


def test_the_jobs_of_a_team_go_by_priority_and_of_one_key_one_after_the_other(team: Team, submitter: Client) -> None:
    asked = [("low", ""), ("normal", "k"), ("normal", "k"), ("high", "")]
    jobs = [create(submitter, priority=p, **({"ordering_key": k} if k else {})).json()["Id"] for p, k in asked]
    (first,) = take()
    assert first.ids == [jobs[3], jobs[1], jobs[0]]
    Job.objects.filter(id=jobs[1]).update(state=State.CANCELLED, finished_at=timezone.now(), lease_until=None)
    (second,) = take()
    assert second.ids == [jobs[2]]


def test_a_job_whose_time_is_over_expires_and_says_so_everywhere(submitter: Client) -> None:
    job_id = create(submitter, ttl_seconds=0.001).json()["Id"]
    kept = create(submitter, ttl_seconds=600).json()["Id"]
    Job.objects.filter(id=job_id).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert [claim.ids for claim in take()] == [[kept]]
    assert expire() == 1
    assert expire() == 0
    answer = submitter.get(f"/result/wine/{job_id}")
    assert (answer.status_code, answer.json()["type"]) == (410, "/problems/expired")
    assert answer.json()["retryable"] is False
    assert answer["X-Inference-Id"] == job_id
    status = submitter.get(f"/status/wine/{job_id}").json()
    assert (status["State"], status["Status"], status["QueuePosition"]) == ("expired", "Completed", None)
    assert status["Error"]["code"] == "expired"
    assert submitter.get(f"/api/jobs/{job_id}/").json()["state"] == "expired"
    assert [job["id"] for job in submitter.get("/api/jobs/?state=expired").json()["results"]] == [job_id]
    assert submitter.post(f"/api/jobs/{job_id}/cancel/").status_code == 409


@pytest.mark.django_db(transaction=True)
def test_a_request_that_waits_for_an_expired_job_gets_the_same_problem(submitter: Client) -> None:
    def sweep() -> None:
        wait_for(Job.objects.exists, 10, lambda: "no job")
        wait_for(lambda: expire() == 1, 10, lambda: "not expired")

    answer, _ = in_threads(lambda: infer(submitter, Prefer="wait=20", X_Inference_Ttl="0.05"), sweep)
    assert (answer.status_code, answer.json()["type"]) == (410, "/problems/expired")
    assert answer["X-Inference-Id"] == str(Job.objects.get().id)
    assert answer.json()["error"] == answer.json()["detail"]


# How it is told


def test_a_job_tells_its_options_its_place_and_where_it_ran(team: Team, submitter: Client) -> None:
    now = timezone.now()
    job = make_running(
        team, priority=Priority.LOW, ordering_key="k", expires_at=now, queued_at=now, host="h", isolated=True,
        attempt=3, failures=1,
    )  # fmt: skip
    Attempt.objects.create(job=job, number=2, host="g", finished_at=now, code="timed-out", message="m", traceback="t")
    detail = submitter.get(f"/api/jobs/{job.id}/").json()
    listed = submitter.get("/api/jobs/").json()["results"][0]
    moment = now.isoformat().replace("+00:00", "Z")
    expected = {"priority": "low", "ordering_key": "k", "host": "h", "isolated": True, "failures": 1, "purged_at": None}
    for shown in (detail, listed):
        assert expected.items() <= shown.items()
        assert (shown["queued_at"], shown["expires_at"]) == (moment, moment)
    assert [(a["number"], a["host"]) for a in detail["attempts"]] == [(2, "g"), (3, "h")]
    assert "traceback" not in detail["attempts"][0]


def test_the_status_counts_from_the_place_in_the_queue(team: Team, submitter: Client) -> None:
    now = timezone.now()
    job = make_final(team, State.SUCCEEDED, accepted_at=now - timedelta(days=1), queued_at=now - timedelta(seconds=5), started_at=now - timedelta(seconds=2))  # fmt: skip  # noqa: E501
    status = submitter.get(f"/status/wine/{job.id}").json()
    assert status["QueuedAt"] == job.queued_at.isoformat().replace("+00:00", "Z")[:23] + "Z"
    assert status["QueueSeconds"] == pytest.approx(3, abs=0.01)


def test_the_position_follows_priority_time_and_what_is_under_way(team: Team) -> None:
    now = timezone.now()

    def queued(seconds_ago: float, **fields: Any) -> Job:
        return make_job(team, queued_at=now - timedelta(seconds=seconds_ago), **fields)

    old, new = queued(50), queued(40)
    high, low = queued(30, priority=Priority.HIGH), queued(60, priority=Priority.LOW)
    assert [queue_position(job) for job in (high, old, new, low)] == [1, 2, 3, 4]
    queued(90, not_before=now + timedelta(minutes=1), state=State.RETRYING)  # not before its pause is over
    queued(90, pool="gpu")
    alone = queued(90, isolated=True)
    make_job(rows.make_team("other"), queued_at=now - timedelta(days=1))  # the teams take turns
    assert [queue_position(job) for job in (high, old, new, low, alone)] == [1, 2, 3, 4, 1]
    first = make_sent(team, sent_at=now - timedelta(seconds=2))
    second = make_sent(team, sent_at=now - timedelta(seconds=1))
    claimed = make_sent(team, sent_at=None)
    make_running(team)
    assert [queue_position(job) for job in (first, second, claimed)] == [1, 2, 3]
    assert [queue_position(job) for job in (high, old, alone)] == [4, 5, 1]
    assert queue_position(make_final(team, State.EXPIRED)) is None


def test_jobs_that_were_queued_in_the_same_moment_have_one_order(team: Team) -> None:
    now = timezone.now()
    jobs = [make_job(team, queued_at=now) for _ in range(4)]
    assert sorted(filter(None, map(queue_position, jobs))) == [1, 2, 3, 4]


def test_a_long_queue_is_not_counted_to_its_end(team: Team) -> None:
    now = timezone.now()
    ahead = [rows.new_job(team, queued_at=now - timedelta(minutes=1)) for _ in range(POSITION_LIMIT + 5)]
    Job.objects.bulk_create(ahead, batch_size=1000)
    assert queue_position(make_job(team, queued_at=now)) == 1 + POSITION_LIMIT


def test_the_result_of_a_job_that_grew_old_is_gone_and_what_ended_otherwise_still_says_how(
    team: Team, submitter: Client
) -> None:
    gone: dict[str, Any] = {"input": b"", "result": None, "purged_at": timezone.now()}
    succeeded = make_final(team, State.SUCCEEDED, **gone)
    answer = submitter.get(f"/result/wine/{succeeded.id}")
    assert (answer.status_code, answer.json()["type"]) == (410, "/problems/result-purged")
    assert answer.json()["retryable"] is False
    assert submitter.get(f"/status/wine/{succeeded.id}").json()["State"] == "succeeded"
    assert submitter.get(f"/api/jobs/{succeeded.id}/").json()["purged_at"] is not None
    for state, slug in (
        (State.FAILED, "bad-data"),
        (State.CANCELLED, "cancelled"),
        (State.EXPIRED, "expired"),
        (State.DEAD_LETTERED, "dead-lettered"),
    ):
        job = make_final(team, state, **gone)
        assert submitter.get(f"/result/wine/{job.id}").json()["type"] == f"/problems/{slug}"
