"""The bounds on open jobs: none too many, no refusal that isn't true, and a Retry-After that can be believed."""

import io
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import Client, override_settings
from django.utils import timezone

from inference_portal.accounts.models import ApiKey, Role, Team, User
from inference_portal.checks import check_limits
from inference_portal.jobs import quota as quota_module
from inference_portal.jobs import services
from inference_portal.jobs.models import Job
from inference_portal.jobs.quota import RATE_SECONDS, SAMPLE_SECONDS, Full, Quota
from inference_portal.jobs.record import record_result
from inference_portal.jobs.repeats import AlreadyAccepted
from inference_portal.jobs.services import job_accept
from inference_portal.jobs.states import FINAL, State
from tests.integration import rows
from tests.integration.rows import in_threads, make_final, make_job, make_team

pytestmark = pytest.mark.django_db
ROW = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
PATHS = {"/v2/models/wine/infer": {"instances": [ROW]}, "/api/jobs/": {"model": "wine", "rows": [ROW]}}


@pytest.fixture(autouse=True)
def quota(monkeypatch: pytest.MonkeyPatch) -> Quota:
    """A process that has counted nothing yet: each test has its own database."""
    fresh = Quota()
    monkeypatch.setattr(services, "quota", fresh)
    return fresh


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is as old as it may be after a second, however many places are free."""
    monkeypatch.setattr(quota_module, "QUIET_SAMPLE_SECONDS", SAMPLE_SECONDS)


@pytest.fixture
def few(team: Team) -> Team:
    """A team that may have five open jobs."""
    Team.objects.filter(id=team.id).update(quota=5)
    return team


def sender(team: Team) -> Client:
    _, key = ApiKey.objects.create_key(name="key", team=team)
    return Client(headers={"Authorization": f"Bearer {key}"})


def post(client: Client, path: str, **more: Any) -> Any:
    headers = {"Prefer": "respond-async"}
    return client.post(path, PATHS[path] | more, content_type="application/json", headers=headers)


def accepted(team: Team) -> Job | None:
    """Accept one job; None when it is refused."""
    job = rows.new_job(team)
    try:
        job_accept(job=job)
    except Full:
        return None
    return job


def refusal(team: Team) -> Full:
    with pytest.raises(Full) as caught:
        job_accept(job=rows.new_job(team))
    return caught.value


def end(job: Job) -> None:
    assert record_result(rows.result(rows.success(job))) == 1


# As many as may be, and not one more


@pytest.mark.parametrize("path", PATHS)
def test_a_team_with_all_its_places_taken_gets_429_and_nothing_is_queued(few: Team, path: str) -> None:
    client = sender(few)
    for _ in range(5):
        assert post(client, path).status_code == 202
    answer = post(client, path)
    assert (answer.status_code, answer["Content-Type"]) == (429, "application/problem+json")
    body = answer.json()
    assert (body["type"], body["retryable"]) == ("/problems/quota-exceeded", True)
    assert "5 open jobs" in body["detail"]
    assert 1 <= int(answer["Retry-After"]) <= 600
    assert ("error" in body) == path.startswith("/v2")
    assert Job.objects.count() == 5
    other = sender(make_team("other"))
    assert post(other, path).status_code == 202


@pytest.mark.parametrize("path", PATHS)
@override_settings(MAX_OPEN_JOBS=3)
def test_a_system_with_all_places_taken_says_503_to_everybody(team: Team, path: str) -> None:
    clients = [sender(make_team(name)) for name in "abc"]
    assert [post(client, path).status_code for client in clients] == [202] * 3
    for client in clients:
        answer = post(client, path)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/system-full")
        assert answer.json()["retryable"] is True
        assert 1 <= int(answer["Retry-After"]) <= 600
    assert Job.objects.count() == 3


def test_a_request_that_is_wrong_is_told_so_before_it_is_counted(few: Team) -> None:
    client = sender(few)
    for _ in range(20):
        assert post(client, "/api/jobs/", priority="none").status_code == 422
    assert all(accepted(few) for _ in range(5))
    assert post(client, "/api/jobs/", priority="none").status_code == 422
    assert post(client, "/api/jobs/", model="none").status_code == 404


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("of_team", [True, False])
def test_sixteen_threads_at_once_get_exactly_the_places_there_are(team: Team, of_team: bool) -> None:
    places = 53
    teams = [team] if of_team else [make_team(name) for name in "abcd"]
    Team.objects.filter(id=team.id).update(quota=places)

    def hammer(number: int) -> int:
        mine = [accepted(teams[number % len(teams)]) for _ in range(12)]
        return sum(job is not None for job in mine)

    with override_settings(MAX_OPEN_JOBS=100_000 if of_team else places):
        got = in_threads(*[lambda n=n: hammer(n) for n in range(16)])
    assert sum(got) == Job.objects.count() == places


@pytest.mark.django_db(transaction=True)
def test_two_processes_know_of_each_other_after_a_moment(
    few: Team, monkeypatch: pytest.MonkeyPatch, impatient: None
) -> None:
    one, other = Quota(), Quota()
    for process in (one, other):
        monkeypatch.setattr(services, "quota", process)
        assert accepted(few)  # both have a count now
    for _ in range(3):
        assert accepted(few)  # of these the first process hears only when it asks again
    monkeypatch.setattr(services, "quota", one)
    time.sleep(SAMPLE_SECONDS + 0.05)
    assert accepted(few) is None


@pytest.mark.django_db(transaction=True)
def test_a_process_that_knows_of_many_free_places_asks_again_when_half_are_taken(
    few: Team, monkeypatch: pytest.MonkeyPatch
) -> None:
    Team.objects.filter(id=few.id).update(quota=10)
    one, other = Quota(), Quota()
    monkeypatch.setattr(services, "quota", one)
    assert accepted(few)
    monkeypatch.setattr(services, "quota", other)
    assert all(accepted(few) for _ in range(9))
    monkeypatch.setattr(services, "quota", one)
    time.sleep(SAMPLE_SECONDS + 0.05)
    # One more than half of the places by its own count, and then it hears of the others.
    assert [accepted(few) is not None for _ in range(7)] == [True] * 5 + [False] * 2


# No refusal that isn't true


@pytest.mark.django_db(transaction=True)
def test_a_client_whose_jobs_end_before_it_sends_the_next_one_is_never_refused(team: Team) -> None:
    Team.objects.filter(id=team.id).update(quota=1)
    for _ in range(40):
        job = accepted(team)
        assert job is not None
        end(job)


@pytest.mark.django_db(transaction=True)
def test_as_many_clients_as_there_are_places_are_never_refused(few: Team) -> None:
    others = [make_team(name) for name in "ab"]

    def one_after_the_other(team: Team) -> int:
        refused = 0
        for _ in range(25):
            job = accepted(team)
            if job is None:
                refused += 1
            else:
                end(job)
        return refused

    teams = [few] * 5 + others
    assert in_threads(*[lambda team=team: one_after_the_other(team) for team in teams]) == [0] * len(teams)


@pytest.mark.parametrize("state", sorted(FINAL))
def test_a_job_that_has_ended_in_any_way_frees_its_place(few: Team, state: State) -> None:
    jobs = [accepted(few) for _ in range(5)]
    assert accepted(few) is None
    assert jobs[0] is not None
    Job.objects.filter(id=jobs[0].id).update(state=state, finished_at=timezone.now())
    assert accepted(few) is not None
    assert accepted(few) is None


def test_a_job_that_waits_for_its_next_attempt_keeps_its_place(few: Team) -> None:
    for state in (State.QUEUED, State.RETRYING):
        make_job(few, state=state)
    rows.make_running(few)
    assert accepted(few) and accepted(few)
    assert accepted(few) is None


def test_a_larger_quota_counts_at_once_and_one_of_nothing_stops_a_team(few: Team, impatient: None) -> None:
    assert all(accepted(few) for _ in range(5))
    assert accepted(few) is None
    Team.objects.filter(id=few.id).update(quota=6)
    assert accepted(few)
    assert accepted(few) is None
    Team.objects.filter(id=few.id).update(quota=None)
    assert accepted(few)
    Team.objects.filter(id=few.id).update(quota=0)
    time.sleep(SAMPLE_SECONDS + 0.05)
    assert "at most 0" in str(refusal(few))


@pytest.mark.django_db(transaction=True)
def test_a_job_that_could_not_be_stored_gives_its_place_back(few: Team) -> None:
    first = accepted(few)
    assert first is not None
    for _ in range(20):
        with pytest.raises(AlreadyAccepted):
            job_accept(job=rows.new_job(few, id=first.id))
    assert all(accepted(few) for _ in range(4))
    assert accepted(few) is None


# What it costs


def test_accepting_asks_the_database_now_and_then_and_not_for_each_job(
    team: Team, django_assert_num_queries: Any, quota: Quota, impatient: None
) -> None:
    with django_assert_num_queries(2), quota.places(team.id):  # of the team, and of all
        pass
    with django_assert_num_queries(0):
        for _ in range(100):
            with quota.places(team.id):
                pass
    time.sleep(SAMPLE_SECONDS + 0.05)
    with django_assert_num_queries(2), quota.places(team.id):
        pass


@pytest.mark.django_db(transaction=True)
def test_those_who_are_refused_together_share_the_look_at_the_database(few: Team, quota: Quota) -> None:
    assert all(accepted(few) for _ in range(5))
    begun = time.monotonic()
    assert in_threads(*[lambda: accepted(few)] * 32) == [None] * 32
    # Each on its own would take 32 rests of ten times the duration of a count.
    assert time.monotonic() - begun < 5


# When to try again


@pytest.fixture
def full(team: Team) -> Iterator[Team]:
    """A team that has 100 open jobs, and may have so many."""
    Team.objects.filter(id=team.id).update(quota=100)
    Job.objects.bulk_create([rows.new_job(team) for _ in range(100)])
    yield team


def ended(team: Team, count: int, seconds_ago: float = 5.0) -> None:
    for _ in range(count):
        make_final(team, State.SUCCEEDED, finished_at=timezone.now() - timedelta(seconds=seconds_ago))


@pytest.mark.parametrize(
    ("finished", "seconds"),
    [
        (0, 30),  # nobody knows
        (1, 200),  # 10 of 100 places at 0.05 a second
        (20, 10),
        (40, 5),
        (250, 1),  # never less
    ],
)
def test_retry_after_is_the_time_until_a_tenth_of_the_places_is_free(full: Team, finished: int, seconds: int) -> None:
    assert RATE_SECONDS == 20
    ended(full, finished)
    ended(full, 50, RATE_SECONDS + 5)  # long ago
    ended(make_team("other"), 50)  # of another team
    assert refusal(full).retry_after == seconds


def test_retry_after_is_never_longer_than_ten_minutes(team: Team) -> None:
    Team.objects.filter(id=team.id).update(quota=500)
    Job.objects.bulk_create([rows.new_job(team) for _ in range(500)])
    ended(team, 1)
    assert refusal(team).retry_after == 600


@override_settings(MAX_OPEN_JOBS=100)
def test_for_the_whole_system_the_rate_is_that_of_all_teams(full: Team) -> None:
    ended(full, 20)
    ended(make_team("other"), 20)
    refused = refusal(make_team("other"))
    assert (refused.of_team, refused.retry_after) == (False, 5)


def test_a_team_above_its_quota_waits_until_it_is_below(full: Team) -> None:
    Team.objects.filter(id=full.id).update(quota=50)
    ended(full, 20)
    assert refusal(full).retry_after == 55


# Who sets it


def access(*arguments: str) -> str:
    out = io.StringIO()
    call_command("access", *arguments, stdout=out)
    return out.getvalue()


def test_a_quota_is_set_shown_and_taken_back_on_the_command_line(team: Team) -> None:
    assert "7 open jobs" in access("set-quota", "team", "7")
    assert Team.objects.get().quota == 7
    assert "team team: at most 7 open jobs" in access("list")
    assert "20,000 open jobs" in access("set-quota", "team")
    assert Team.objects.get().quota is None
    assert "at most" not in access("list")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody", "5"], "add-team nobody"),
        (["team", "-1"], "arguments|greater"),
        (["team", "many"], "invalid int"),
        (["team", "99999999999999999999"], "less than"),
        ([], "required"),
    ],
)
def test_a_quota_that_makes_no_sense_is_refused(team: Team, arguments: list[str], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        access("set-quota", *arguments)
    assert Team.objects.get().quota is None


def test_an_operator_sets_it_on_the_teams_page(team: Team) -> None:
    browser = Client()
    browser.force_login(User.objects.create(username="op", team=team, role=Role.OPERATOR))
    page = f"/admin/accounts/team/{team.id}/change/"
    assert 'name="quota"' in browser.get(page).content.decode()
    assert "20,000 (default)" in browser.get("/admin/accounts/team/").content.decode()
    assert browser.post(page, {"name": "team", "quota": "12"}).status_code == 302
    assert Team.objects.get().quota == 12
    for wrong in ("-1", "x", "99999999999999999999"):
        assert browser.post(page, {"name": "team", "quota": wrong}).status_code == 200
    assert Team.objects.get().quota == 12
    assert browser.post(page, {"name": "team", "quota": ""}).status_code == 302
    assert Team.objects.get().quota is None


@pytest.mark.parametrize(
    ("name", "wrong", "right"),
    [
        ("TEAM_QUOTA", [0, -1], [1]),
        ("MAX_OPEN_JOBS", [0, -1], [1]),
        ("RESULT_RETENTION_HOURS", [-1.0, float("nan"), float("inf"), 876_001.0], [0.0, 0.5, 876_000.0]),
        ("RECORD_RETENTION_DAYS", [-0.5, float("nan"), float("inf"), 36_501.0], [0.0, 0.5, 36_500.0]),
    ],
)
def test_settings_that_make_no_sense_are_found_by_the_checks(name: str, wrong: list[Any], right: list[Any]) -> None:
    for value in wrong:
        with override_settings(**{name: value}):
            (error,) = check_limits()
            assert (error.id, name in error.msg) == ("inference.E002", True)
    for value in right:
        with override_settings(**{name: value}):
            assert check_limits() == []
