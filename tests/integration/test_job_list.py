"""GET /api/jobs/: the team's jobs, newest first, in pages, by filters and labels."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import State
from tests.integration import rows
from tests.integration.http import ASYNC, BODY, INFER, JOB, JOBS, client, post, problem
from tests.integration.rows import make_final, make_job

pytestmark = pytest.mark.django_db


# Pages


def test_the_list_is_the_newest_first_and_its_pages_neither_repeat_nor_miss(team: Team, submitter: Client) -> None:
    now = timezone.now()
    # Ties too: jobs may be accepted in the same microsecond.
    jobs = [make_job(team, accepted_at=now - timedelta(seconds=i // 2)) for i in range(25)]
    seen: list[str] = []
    path = "/api/jobs/?page_size=3"
    while path:
        page = submitter.get(path).json()
        assert page.keys() == {"next", "previous", "results"}
        seen += [job["id"] for job in page["results"]]
        path = page["next"]
        make_job(team)  # one more comes in meanwhile
    assert sorted(seen) == sorted(str(job.id) for job in jobs)
    times = [Job.objects.get(id=i).accepted_at for i in seen]
    assert times == sorted(times, reverse=True)


def test_a_cursor_goes_back_again(team: Team, submitter: Client) -> None:
    for i in range(6):
        make_job(team, accepted_at=timezone.now() - timedelta(seconds=i))
    first = submitter.get("/api/jobs/?page_size=2").json()
    second = submitter.get(first["next"]).json()
    assert submitter.get(second["previous"]).json()["results"] == first["results"]


def test_the_list_filters_by_state_model_version_and_time(team: Team, submitter: Client) -> None:
    now = timezone.now()
    old = make_final(team, State.SUCCEEDED, accepted_at=now - timedelta(days=2))
    new = make_job(team, version="2", accepted_at=now - timedelta(hours=1))
    cancer = make_job(team, model="breast_cancer", accepted_at=now)

    def found(**parameters: Any) -> list[str]:
        answer = submitter.get("/api/jobs/", parameters)
        assert answer.status_code == 200, answer.content
        return [job["id"] for job in answer.json()["results"]]

    day = (now - timedelta(days=1)).isoformat()
    assert found(state="succeeded") == [str(old.id)]
    assert found(model="breast_cancer") == [str(cancer.id)]
    assert found(model="wine", version="2") == [str(new.id)]
    assert found(created_after=day) == [str(cancer.id), str(new.id)]
    assert found(created_before=day) == [str(old.id)]
    assert found(created_after=new.accepted_at.isoformat(), created_before=now.isoformat()) == [str(new.id)]
    assert found(state="failed") == []


@pytest.mark.parametrize(
    "query",
    [
        "state=lost", "state=%00", "created_after=yesterday", "created_before=2026-13-01", "model=%00", "version=%00",
    ],
)  # fmt: skip
def test_a_filter_value_that_makes_no_sense_is_named(submitter: Client, query: str) -> None:
    body = problem(submitter.get(f"/api/jobs/?{query}"), 422, "invalid-input")
    assert body["errors"][0]["pointer"] == "/" + query.partition("=")[0]


def cursor(text: str) -> str:
    return base64.b64encode(text.encode()).decode().replace("=", "%3D")


@pytest.mark.parametrize(
    "query",
    [
        "cursor=nonsense", "cursor=%00", "cursor=", f"cursor={cursor('p=nonsense')}", f"cursor={cursor('p=%00')}",
        "created_after=0001-01-01T00:00:00%2B14:00", "created_before=9999-12-31T23:59:59-14:00",
        f"cursor={cursor('o=-5')}", f"cursor={cursor('o=99999999999999999999')}", f"cursor={cursor('p=2026-99-99')}",
        f"cursor={cursor('p=9999-12-31T23:59:59-14:00')}",
        f"cursor={cursor('after 2026-01-01T00:00:00 x')}", f"cursor={cursor('after 2026-01-01T00:00:00Z x')}",
        f"cursor={cursor('before 2026-01-01T00:00:00Z 5')}", f"cursor={cursor('after 9999-12-31T23:59:59-14:00 x')}",
        f"cursor={cursor('on 2026-01-01T00:00:00Z x')}", f"cursor={cursor('after  ')}", "cursor=%C3%A9%FF",
        f"cursor={cursor('after 2026-01-01T00:00:00Z ' + chr(0))}", "cursor=" + "x" * 4000,
        "page_size=99999999999999999999", f"page_size={'9' * 5000}", "wait=5", "state=", "model=", "created_after=",
    ],
)  # fmt: skip
def test_an_odd_page_is_refused_or_passed_over_but_no_error_of_ours(team: Team, submitter: Client, query: str) -> None:
    make_job(team)
    answer = submitter.get(f"/api/jobs/?{query}")
    if "cursor" in query and query != "cursor=":
        problem(answer, 400, "malformed")
    else:
        assert answer.status_code in (200, 400, 422), answer.content


def listed(sender: Client, **parameters: Any) -> list[str]:
    """Follow all pages. Returns the jobs' ids."""
    ids: list[str] = []
    answer = sender.get("/api/jobs/", {"page_size": 2, **parameters})
    while True:
        assert answer.status_code == 200, answer.content
        page = answer.json()
        ids += [job["id"] for job in page["results"]]
        if page["next"] is None:
            return ids
        answer = sender.get(page["next"])


def test_jobs_of_one_moment_are_paged_both_ways_without_a_gap(team: Team, submitter: Client) -> None:
    moment = timezone.now()
    expected = sorted((str(make_job(team, accepted_at=moment).id) for _ in range(13)), reverse=True)
    forth, back = [], []
    page = submitter.get("/api/jobs/?page_size=3").json()
    while True:
        forth.append([job["id"] for job in page["results"]])
        if page["next"] is None:
            break
        page = submitter.get(page["next"]).json()
    while True:
        back.append([job["id"] for job in page["results"]])
        if page["previous"] is None:
            break
        page = submitter.get(page["previous"]).json()
    assert [i for part in forth for i in part] == expected
    assert [i for part in reversed(back) for i in part] == expected


@pytest.mark.parametrize("path", ["/api/jobs/", "/api/dead-letters/", "/api/dead-letters/messages/"])
@pytest.mark.parametrize("size", ["0", "-1", "x", "1.5", "00", "%00"])
def test_a_page_size_that_is_none_is_named(team: Team, path: str, size: str) -> None:
    body = problem(client(team, Role.OPERATOR).get(f"{path}?page_size={size}"), 422, "invalid-input")
    assert [error["pointer"] for error in body["errors"]] == ["/page_size"]


def test_filters_and_their_values_stay_with_the_pages(team: Team, submitter: Client) -> None:
    wanted = [make_job(team, labels="\na b&c\n") for _ in range(5)]
    for _ in range(5):
        make_job(team)
    assert sorted(listed(submitter, label="a b&c", state="queued")) == sorted(str(job.id) for job in wanted)


def test_a_filter_that_does_not_exist_is_refused_and_those_are_named_that_do(submitter: Client) -> None:
    for name in ("colour", "Batch", "State"):
        detail = problem(submitter.get(f"/api/jobs/?{name}=x"), 422, "invalid-input")["detail"]
        assert f"'{name}'" in detail
        for known in ("state", "model", "version", "label", "created_after", "created_before"):
            assert known in detail


@pytest.mark.parametrize("zone", ["Z", "%2B00:00", "%2B05:30", "-11:00"])
def test_a_time_may_be_of_any_zone_and_the_bounds_are_from_and_before(team: Team, submitter: Client, zone: str) -> None:
    moment = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
    job = make_job(team, accepted_at=moment)
    earlier = make_job(team, accepted_at=moment - timedelta(microseconds=1))
    hours = {"Z": 0, "%2B00:00": 0, "%2B05:30": 5.5, "-11:00": -11}[zone]
    text = (moment + timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S") + zone

    def found(query: str) -> list[str]:
        return [each["id"] for each in submitter.get(f"/api/jobs/?{query}").json()["results"]]

    assert found(f"created_after={text}") == [str(job.id)]
    assert found(f"created_before={text}") == [str(earlier.id)]
    assert found(f"created_after={text}&created_before={text}") == []


def test_a_viewer_sees_the_teams_jobs_and_an_operator_all(team: Team) -> None:
    own, foreign = make_job(team), make_job(rows.make_team("other"))
    assert listed(client(team, Role.VIEWER)) == [str(own.id)]
    assert sorted(listed(client(team, Role.OPERATOR))) == sorted([str(own.id), str(foreign.id)])


# Labels


def test_labels_are_shown_in_their_order_and_each_once(submitter: Client) -> None:
    answer = post(submitter, JOBS, {**JOB, "labels": ["b", "ünï ☃", "a", "b"]})
    job_id = answer.json()["Id"]
    assert submitter.get(f"/api/jobs/{job_id}/").json()["labels"] == ["b", "ünï ☃", "a"]
    assert submitter.get("/api/jobs/").json()["results"][0]["labels"] == ["b", "ünï ☃", "a"]
    for empty in ({"labels": None}, {"labels": list[str]()}):
        plain = post(submitter, JOBS, {**JOB, **empty}).json()["Id"]
        assert submitter.get(f"/api/jobs/{plain}/").json()["labels"] == []
    by_infer = post(submitter, INFER, BODY, **ASYNC).json()["Id"]
    assert submitter.get(f"/api/jobs/{by_infer}/").json()["labels"] == []


def test_a_label_finds_what_carries_it_as_a_whole(submitter: Client) -> None:
    labels = ["abc", "ab", "bc", "b", "B", "a b", " ", " b", "%", "_", "'", "\\", "ß"]
    jobs = {label: post(submitter, JOBS, {**JOB, "labels": ["x", label, "y"]}).json()["Id"] for label in labels}
    for label, job_id in jobs.items():
        assert listed(submitter, label=label) == [job_id], label
    assert sorted(listed(submitter, label="x")) == sorted(jobs.values())
    for none in ("c", "xy", "x\n", "\nx", "x\nabc", "X"):
        assert listed(submitter, label=none) == [], none
    other = client(rows.make_team("other"))
    assert listed(other, label="x") == []


def test_as_many_and_as_long_labels_as_may_be(submitter: Client) -> None:
    most = [f"{i:02}" + "x" * 62 for i in range(20)]
    job_id = post(submitter, JOBS, {**JOB, "labels": most}).json()["Id"]
    assert submitter.get(f"/api/jobs/{job_id}/").json()["labels"] == most
    assert listed(submitter, label=most[7]) == [job_id]


@pytest.mark.parametrize(
    ("labels", "pointer"),
    [
        ("a", "/labels"), ({"a": 1}, "/labels"), (5, "/labels"), (True, "/labels"), (["a"] * 21, "/labels"),
        (["a", ""], "/labels/1"), (["a" * 65], "/labels/0"), ([None], "/labels/0"), ([["a"]], "/labels/0"),
        (["a\nb"], "/labels/0"), (["\0"], "/labels/0"), (["\ud800"], "/labels/0"), (["a", "b", 3], "/labels/2"),
    ],
)  # fmt: skip
def test_labels_that_are_none_are_named(submitter: Client, labels: Any, pointer: str) -> None:
    body = problem(post(submitter, JOBS, {**JOB, "labels": labels}), 422, "invalid-input")
    assert body["errors"][0]["pointer"] == pointer
    assert not Job.objects.exists()
