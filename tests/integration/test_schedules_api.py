"""/api/schedules/ over HTTP: made, changed, removed, run by hand; who may; what is refused, and where."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.batches.models import Batch
from inference_portal.batches.schedules.models import Outcome, Schedule
from inference_portal.batches.schedules.tick import tick
from tests.integration import rows
from tests.integration.http import client, post, problem, put, send
from tests.integration.schedules import DAY, batch, finish, folder, make_schedule

pytestmark = pytest.mark.django_db
URL = "/api/schedules/"


def asked(team: Team, **fields: Any) -> dict[str, Any]:
    return {"name": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "batch": batch(team), **fields}


def refused(answer: Any) -> dict[str, str]:
    """Return what was refused, by its pointer."""
    return {each["pointer"]: each["detail"] for each in problem(answer, 422, "invalid-input")["errors"]}


def patch(sender: Client, path: str, body: Any) -> Any:
    return send(sender, "PATCH", path, body)


def test_one_is_made_looked_at_changed_and_removed(submitter: Client, team: Team) -> None:
    answer = post(submitter, URL, asked(team, rehearsal={"before_seconds": 3600, "rows": 100}))
    assert answer.status_code == 201, answer.content
    made = answer.json()
    assert answer["Location"] == f"{URL}{made['id']}/"
    assert made == submitter.get(answer["Location"]).json()
    assert (made["name"], made["team"], made["cron"]) == ("nightly", "team", "30 2 * * *")
    assert (made["every_seconds"], made["at"], made["last_due_at"], made["enabled"]) == (None, None, None, True)
    assert (made["catch_up"], made["overlap"], made["batch"]) == ("latest", "skip", batch(team))
    coming = [datetime.fromisoformat(each) for each in made["upcoming"]]
    assert len(coming) == 5
    assert made["upcoming"][0] == made["next_due_at"]
    assert datetime.fromisoformat(made["next_rehearsal_at"]) == coming[0] - timedelta(hours=1)
    assert submitter.get(URL).json()["results"] == [{name: made[name] for name in made if name != "upcoming"}]
    assert submitter.get(f"{URL}?name=weekly").json()["results"] == []

    changed = patch(
        submitter, answer["Location"], {"every_seconds": 3600, "overlap": "queue", "rehearsal": None}
    ).json()
    assert (changed["cron"], changed["every_seconds"], changed["overlap"]) == (None, 3600, "queue")
    assert (changed["rehearsal"], changed["next_rehearsal_at"]) == (None, None)
    replaced = put(submitter, answer["Location"], asked(team, name="other")).json()
    assert (replaced["name"], replaced["every_seconds"], replaced["overlap"]) == ("other", None, "skip")
    assert replaced["id"] == made["id"]

    assert submitter.delete(answer["Location"]).status_code == 204
    problem(submitter.get(answer["Location"]), 404, "not-found")


def test_a_moment_and_an_interval(submitter: Client, team: Team) -> None:
    at = timezone.now().replace(microsecond=0) + DAY
    once = post(submitter, URL, {"name": "once", "at": at.isoformat(), "batch": batch(team)}).json()
    assert once["upcoming"] == [at.astimezone(UTC).isoformat().replace("+00:00", "Z")]
    every = post(submitter, URL, {"name": "often", "every_seconds": 60.0, "batch": batch(team)}).json()
    assert len(every["upcoming"]) == 5


@pytest.mark.parametrize(
    ("fields", "pointers"),
    [
        ({"name": ""}, {"/name"}),
        ({"name": "x" * 101}, {"/name"}),
        ({"name": "a\0b"}, {"/name"}),
        ({"name": 7}, {"/name"}),
        ({"name": None}, {"/name"}),
        ({"batch": None}, {"/batch"}),
        ({"batch": []}, {"/batch"}),
        ({"cron": "0 0 30 2 *"}, {"/cron"}),
        ({"cron": "61 * * * *"}, {"/cron"}),
        ({"cron": "* * * * * *"}, {"/cron"}),
        ({"cron": ["*"]}, {"/cron"}),
        ({"cron": None}, {"/cron"}),
        ({"cron": ""}, {"/cron"}),
        ({"every_seconds": 60}, {"/cron", "/every_seconds"}),
        ({"cron": None, "every_seconds": 1}, {"/every_seconds"}),
        ({"cron": None, "every_seconds": True}, {"/every_seconds"}),
        ({"cron": None, "every_seconds": 10**12}, {"/every_seconds"}),
        ({"cron": None, "at": "2020-01-01T00:00:00Z"}, {"/at"}),
        ({"cron": None, "at": "9999-12-31T23:59:59Z"}, {"/at"}),
        ({"cron": None, "at": "2030-01-01T00:00:00"}, {"/at"}),
        ({"cron": None, "at": "tomorrow"}, {"/at"}),
        ({"cron": None, "at": "0001-01-01T00:00:00+14:00"}, {"/at"}),
        ({"timezone": "Europe/Atlantis"}, {"/timezone"}),
        ({"timezone": "../../etc/passwd"}, {"/timezone"}),
        ({"timezone": 7}, {"/timezone"}),
        ({"catch_up": "some"}, {"/catch_up"}),
        ({"catch_up": ["all"]}, {"/catch_up"}),
        ({"overlap": "kill"}, {"/overlap"}),
        ({"enabled": "yes"}, {"/enabled"}),
        ({"rehearsal": 7}, {"/rehearsal"}),
        ({"rehearsal": {"before_seconds": 60}}, {"/rehearsal"}),
        ({"rehearsal": {"before_seconds": 0, "rows": 1}}, {"/rehearsal"}),
        ({"rehearsal": {"before_seconds": 86_400, "rows": 1}}, {"/rehearsal/before_seconds"}),
        ({"until": 7, "day/s": 8}, {"/until", "/day~1s"}),
    ],
)
def test_a_wrong_field_is_named(submitter: Client, team: Team, fields: dict[str, Any], pointers: set[str]) -> None:
    assert set(refused(post(submitter, URL, asked(team, **fields)))) == pointers
    assert not Schedule.objects.exists()


@pytest.mark.parametrize(
    ("fields", "pointer", "why"),
    [
        ({"model": "gone"}, "/batch/model", "gone"),
        ({"model": None}, "/batch/model", "expected"),
        ({"version": "77"}, "/batch/version", "77"),
        ({"input": None}, "/batch/input", "expected"),
        ({"input": {"uri": "ftp://x/{{ day }}"}}, "/batch/input/uri", ""),
        ({"input": {"uri": "s3://x/{{ dya }}"}}, "/batch/input/uri", "there is no 'dya'; there are day, yesterday"),
        ({"input": {"uri": "s3://x/{{ day }"}}, "/batch/input/uri", "a name between"),
        ({"output": {"uri": "s3://x/{{ day | upper }}"}}, "/batch/output/uri", "there is no 'day | upper'"),
        ({"chunk_rows": 0}, "/batch/chunk_rows", ""),
        ({"retry_policy": "some"}, "/batch/retry_policy", ""),
        ({"deadline": "2030-01-01T00:00:00Z"}, "/batch/deadline", "deadline_seconds"),
        ({"deadline_seconds": -1}, "/batch/deadline_seconds", "above 0"),
        ({"deadline_seconds": "1 h"}, "/batch/deadline_seconds", "number"),
        ({"wat": 1}, "/batch/wat", "no such field"),
    ],
)
def test_a_wrong_field_of_the_batch_is_named(
    submitter: Client, team: Team, fields: dict[str, Any], pointer: str, why: str
) -> None:
    faults = refused(post(submitter, URL, asked(team, batch=batch(team, **fields))))
    assert list(faults) == [pointer]
    assert why in faults[pointer]


def test_another_teams_upload_is_refused(submitter: Client, team: Team) -> None:
    other = rows.make_team("other")
    uri = f"{folder(other)}/{{{{ day }}}}.csv"
    assert "/batch/input/uri" in refused(post(submitter, URL, asked(team, batch=batch(team, input={"uri": uri}))))


def test_a_name_is_taken_once_in_a_team(submitter: Client, team: Team) -> None:
    first = post(submitter, URL, asked(team)).json()
    assert "/name" in refused(post(submitter, URL, asked(team)))
    second = post(submitter, URL, asked(team, name="other")).json()
    assert "/name" in refused(patch(submitter, f"{URL}{second['id']}/", {"name": "nightly"}))
    assert patch(submitter, f"{URL}{first['id']}/", {"name": "nightly"}).status_code == 200
    other = rows.make_team("other")
    assert post(client(other), URL, asked(other)).status_code == 201


def test_a_schedule_of_another_team_does_not_exist(team: Team) -> None:
    schedule = make_schedule(team)
    place = f"{URL}{schedule.id}/"
    stranger, operator = client(rows.make_team("other")), client(rows.make_team("ops"), Role.OPERATOR)
    for answer in (
        stranger.get(place), stranger.delete(place), patch(stranger, place, {"enabled": False}),
        put(stranger, place, {}), stranger.get(f"{place}runs/"), post(stranger, f"{place}run-now/"),
    ):  # fmt: skip
        problem(answer, 404, "not-found")
    assert stranger.get(URL).json()["results"] == []
    assert patch(operator, place, {"enabled": False}).json()["enabled"] is False
    assert len(operator.get(URL).json()["results"]) == 1


def test_a_viewer_reads_only(team: Team) -> None:
    schedule = make_schedule(team)
    viewer, place = client(team, Role.VIEWER), f"{URL}{schedule.id}/"
    assert (
        viewer.get(place).status_code == viewer.get(f"{place}runs/").status_code == viewer.get(URL).status_code == 200
    )
    for answer in (
        post(viewer, URL, asked(team)), viewer.delete(place), patch(viewer, place, {"enabled": False}),
        put(viewer, place, asked(team)), post(viewer, f"{place}run-now/"),
    ):  # fmt: skip
        problem(answer, 403, "forbidden")


def test_its_runs_are_listed_with_what_became_of_them(submitter: Client, team: Team) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    schedule = make_schedule(team, start=start, cron="0 0 * * *", timezone="UTC")
    for night in (1, 2):
        tick(start + night * DAY)
    runs = submitter.get(f"{URL}{schedule.id}/runs/").json()["results"]
    made = Batch.objects.get()
    assert [(run["due_at"][:10], run["outcome"], run["batch"], run["state"]) for run in runs] == [
        ("2026-01-03", "skipped", None, None),
        ("2026-01-02", "made", str(made.id), "queued"),
    ]
    assert "still under way" in runs[0]["why"]
    only = submitter.get(f"{URL}{schedule.id}/runs/?outcome=made").json()["results"]
    assert only == runs[1:]
    problem(submitter.get(f"{URL}{schedule.id}/runs/?state=made"), 422, "invalid-input")
    first = submitter.get(f"{URL}{schedule.id}/runs/?page_size=1").json()
    assert first["results"] == runs[:1]
    assert submitter.get(first["next"]).json()["results"] == runs[1:]


def test_it_runs_at_once_by_hand(submitter: Client, team: Team) -> None:
    schedule = make_schedule(team, start=timezone.now(), enabled=False)
    answer = post(submitter, f"{URL}{schedule.id}/run-now/")
    assert answer.status_code == 202, answer.content
    run, made = answer.json(), Batch.objects.get()
    assert (run["kind"], run["outcome"], run["batch"], run["state"]) == ("manual", "made", str(made.id), "queued")
    assert made.schedule_id == schedule.id
    problem(post(submitter, f"{URL}{schedule.id}/run-now/"), 409, "conflict")
    finish()
    assert post(submitter, f"{URL}{schedule.id}/run-now/", {}).status_code == 202
    assert set(refused(post(submitter, f"{URL}{schedule.id}/run-now/", {"model": "wine"}))) == {"/model"}


def test_or_after_the_run_that_is_under_way(submitter: Client, team: Team) -> None:
    schedule = make_schedule(team, start=timezone.now(), overlap="queue")
    first, second, third = (post(submitter, f"{URL}{schedule.id}/run-now/").json() for _ in range(3))
    assert (first["outcome"], second["outcome"], third["outcome"]) == ("made", "waiting", "waiting")
    finish()
    assert [tick(), tick()] == [1, 0]
    outcomes = [run["outcome"] for run in submitter.get(f"{URL}{schedule.id}/runs/").json()["results"]]
    assert outcomes == ["waiting", "made", "made"]
    patch(submitter, f"{URL}{schedule.id}/", {"enabled": False})
    assert schedule.runs.get(outcome=Outcome.SKIPPED).why == "the schedule was turned off while it waited"


def test_what_cannot_be_made_by_hand_is_refused_and_leaves_nothing(submitter: Client, team: Team) -> None:
    schedule = make_schedule(team, batch=batch(team, chunk_rows=0))
    assert set(refused(post(submitter, f"{URL}{schedule.id}/run-now/"))) == {"/chunk_rows"}
    assert not schedule.runs.exists()


def test_what_was_due_while_it_was_off_is_not_caught_up_on(submitter: Client, team: Team) -> None:
    schedule = make_schedule(team, start=timezone.now() - 7 * DAY, catch_up="all", enabled=False)
    patch(submitter, f"{URL}{schedule.id}/", {"enabled": True})
    assert tick() == 0
    assert not schedule.runs.exists()


def test_a_new_time_counts_from_now(submitter: Client, team: Team) -> None:
    schedule = make_schedule(team, start=timezone.now() - 7 * DAY, catch_up="all")
    patch(submitter, f"{URL}{schedule.id}/", {"cron": "0 * * * *"})
    assert tick() == 0
    assert not schedule.runs.exists()


def test_its_batches_outlive_it(submitter: Client, team: Team) -> None:
    schedule = make_schedule(team, start=timezone.now())
    post(submitter, f"{URL}{schedule.id}/run-now/")
    assert submitter.delete(f"{URL}{schedule.id}/").status_code == 204
    assert Batch.objects.get().schedule_id == schedule.id


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_one_that_never_was(submitter: Client, method: str) -> None:
    body = "" if method in ("get", "delete") else {"enabled": True}
    problem(send(submitter, method.upper(), f"{URL}{uuid4()}/", body), 404, "not-found")


def test_a_body_that_says_nothing_is_refused(submitter: Client, team: Team) -> None:
    schedule = make_schedule(team)
    assert list(refused(patch(submitter, f"{URL}{schedule.id}/", {}))) == [""]
    problem(post(submitter, URL, "[]"), 400, "malformed")
    assert set(refused(post(submitter, URL, {}))) >= {"/name", "/batch"}
