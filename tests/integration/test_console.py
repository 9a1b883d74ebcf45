"""The pages for people: who sees what, and that nothing that was typed or sent gets out as markup."""

import itertools
import json
import re
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from django.contrib import admin
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from inference_portal.accounts.callers import caller_from_key
from inference_portal.accounts.models import ApiKey, Role, Team, User
from inference_portal.batches.models import Batch
from inference_portal.batches.schedules.models import Schedule
from inference_portal.console.models import DeadLetter
from inference_portal.console.site import PortalSite
from inference_portal.console.state_labels import STATE_COLOURS
from inference_portal.deliveries.models import Delivery, Endpoint
from inference_portal.jobs.models import Attempt, AuditEntry, Job, ParkedMessage, Worker
from inference_portal.jobs.states import FINAL, State
from inference_portal.store import model_store
from workers.model_store import Snapshot
from workers.template.yaml_file import ManifestError

pytestmark = pytest.mark.django_db

PASSWORD = "a-password-for-tests"
EVIL = "<script>alert('evil')</script>"
PREDICT = "/admin/predict/wine/1/"
# Page -> the least role that may see it.
PAGES = {
    "/admin/": Role.VIEWER,
    "/admin/jobs/job/": Role.VIEWER,
    "/admin/jobs/worker/": Role.VIEWER,
    "/admin/jobs/": Role.VIEWER,
    "/admin/models/": Role.VIEWER,
    "/admin/password_change/": Role.VIEWER,
    "/admin/predict/": Role.SUBMITTER,
    PREDICT: Role.SUBMITTER,
    "/admin/console/deadletter/": Role.OPERATOR,
    "/admin/jobs/parkedmessage/": Role.OPERATOR,
    "/admin/jobs/auditentry/": Role.OPERATOR,
    "/admin/accounts/team/": Role.OPERATOR,
    "/admin/accounts/team/add/": Role.OPERATOR,
    "/admin/accounts/user/": Role.OPERATOR,
    "/admin/accounts/user/add/": Role.OPERATOR,
    "/admin/accounts/apikey/": Role.OPERATOR,
    "/admin/accounts/apikey/add/": Role.OPERATOR,
}


@pytest.fixture
def team() -> Team:
    return Team.objects.create(name="ours")


@pytest.fixture
def other_team() -> Team:
    return Team.objects.create(name="theirs")


def login(team: Team | None, role: Role = Role.OPERATOR, **fields: Any) -> Client:
    client = Client()
    client.force_login(User.objects.create(username=f"{role}-person", team=team, role=role, **fields))
    return client


def enter(team: Team | None, **fields: Any) -> Any:
    """Log a person in by name and password, as on the login page."""
    user = User(username="somebody", team=team, **fields)
    user.set_password(PASSWORD)
    user.save()
    return Client().post("/admin/login/", {"username": "somebody", "password": PASSWORD})


def make_job(team: Team, state: State = State.SUCCEEDED, **fields: Any) -> Job:
    manifest = model_store().get("wine", "1").manifest
    rows = fields.pop("rows", 1)
    matrix = np.arange(rows * len(manifest.columns), dtype="<f4").reshape(rows, -1)
    final: dict[str, Any] = {"finished_at": timezone.now(), "started_at": timezone.now()} if state in FINAL else {}
    if state is State.SUCCEEDED:
        outputs = [
            {"name": "probability", "datatype": "FP32", "shape": [rows, 3], "data": [0.25, 0.5, 0.125] * rows},
            {"name": "label", "datatype": "BYTES", "shape": [rows], "data": ["class_1"] * rows},
        ]
        final["result"] = json.dumps(outputs).encode()
    values = {
        "team": team,
        "submitted_by": "somebody",
        "model": "wine",
        "version": "1",
        "sha256": manifest.sha256,
        "pool": manifest.pool,
        "state": state,
        "rows": rows,
        "input": matrix.tobytes(),
        "reply": {"format": "instances"},
        **final,
        **fields,
    }
    return Job.objects.create(**values)


def make_worker(name: str = "cpu@host", age: timedelta = timedelta()) -> Worker:
    return Worker.objects.create(
        name=name,
        host="host",
        pools=["cpu"],
        device="cpu",
        processes=2,
        serves=["wine:1"],
        seen_at=timezone.now() - age,
    )


def job_url(job: Job) -> str:
    return reverse("admin:jobs_job_change", args=[job.id])


def cancel_url(job: Job) -> str:
    return reverse("admin:jobs_job_cancel", args=[job.id])


def text(response: Any) -> str:
    return str(response.content.decode())


def example() -> dict[str, str]:
    release = model_store().get("wine", "1")
    row = json.loads((release.folder / "golden.json").read_text())["inputs"][0]
    return {f"column_{i}": repr(value) for i, value in enumerate(row)}


# Entering


def test_our_site_is_the_one_in_use() -> None:
    assert isinstance(admin.site, PortalSite)
    assert "Inference portal" in text(Client().get("/admin/login/"))


def test_only_our_tables_have_pages() -> None:
    assert set(admin.site._registry) == {
        *(Job, DeadLetter, ParkedMessage, AuditEntry, Worker, Team, User, ApiKey),
        *(Batch, Schedule, Delivery, Endpoint),
    }


@pytest.mark.parametrize("role", list(Role))
def test_a_person_of_any_role_logs_in_without_being_staff(team: Team, role: Role) -> None:
    answer = enter(team, role=role)
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
    assert answer.client.get("/admin/").status_code == 200


def test_a_person_without_a_team_is_told_so() -> None:
    assert "belongs to no team yet" in text(enter(None))
    client = login(None)
    assert client.get("/admin/")["Location"] == "/admin/login/?next=/admin/"
    assert "belong to no team" in text(client.get("/admin/login/?next=/admin/"))


def test_an_inactive_person_stays_outside(team: Team) -> None:
    answer = enter(team, is_active=False)
    assert answer.status_code == 200 and "_auth_user_id" not in answer.client.session


@pytest.mark.parametrize("page", PAGES)
def test_a_stranger_is_sent_to_the_login(page: str) -> None:
    assert Client().get(page)["Location"].startswith("/admin/login/?next=")


@pytest.mark.parametrize(("role", "page"), list(itertools.product(Role, PAGES)))
def test_each_role_sees_its_pages_and_no_others(team: Team, role: Role, page: str) -> None:
    answer = login(team, role).get(page)
    assert answer.status_code == (200 if role.allows(PAGES[page]) else 403)


@pytest.mark.parametrize("role", list(Role))
def test_the_sidebar_leads_only_where_the_role_may_go(team: Team, role: Role) -> None:
    client = login(team, role)
    sidebar = text(client.get("/admin/")).split('id="nav-sidebar-apps"')[1].split("</nav>")[0]
    links = set(re.findall(r'href="(/[^"]*)"', sidebar))
    assert {"/admin/jobs/job/", "/admin/models/", "/admin/jobs/worker/", "/api/docs/"} <= links
    assert ("/admin/predict/" in links) is role.allows(Role.SUBMITTER)
    assert ("/admin/accounts/user/" in links) is role.allows(Role.OPERATOR)
    for link in links:
        assert client.get(link).status_code == 200, link


def test_a_superuser_is_an_operator(team: Team) -> None:
    assert login(team, Role.VIEWER, is_superuser=True).get("/admin/accounts/user/").status_code == 200


# The dashboard and the list


def test_the_dashboard_counts_the_teams_jobs_of_the_last_day(team: Team, other_team: Team) -> None:
    mine = make_job(team)
    make_job(team, State.QUEUED)
    make_job(team, accepted_at=timezone.now() - timedelta(days=2))
    foreign = make_job(other_team)
    make_worker()
    make_worker("gone@host", timedelta(minutes=5))
    answer = login(team, Role.VIEWER).get("/admin/")
    counts = {item["state"]: item["count"] for item in answer.context["counts"]}
    assert (counts["succeeded"], counts["queued"], counts["failed"]) == (1, 1, 0)
    assert (answer.context["workers"], answer.context["processes"]) == (1, 2)
    assert str(mine.id) in text(answer) and str(foreign.id) not in text(answer)
    assert "New prediction" not in text(answer)


def test_every_state_has_a_colour() -> None:
    assert STATE_COLOURS.keys() == set(State)


@pytest.mark.parametrize(("role", "sees_all"), [(Role.VIEWER, False), (Role.SUBMITTER, False), (Role.OPERATOR, True)])
def test_the_list_shows_other_teams_jobs_to_operators_only(
    team: Team, other_team: Team, role: Role, sees_all: bool
) -> None:
    mine, foreign = make_job(team), make_job(other_team)
    page = text(login(team, role).get("/admin/jobs/job/"))
    assert job_url(mine) in page
    assert (job_url(foreign) in page) is sees_all
    assert ("theirs" in page) is sees_all


def test_the_list_is_read_with_few_queries_and_without_payloads(
    team: Team, django_assert_max_num_queries: Any, django_assert_num_queries: Any
) -> None:
    client = login(team, Role.VIEWER)
    for _ in range(20):
        make_job(team)
    # Session, user, jobs.
    with django_assert_max_num_queries(4) as queries:
        client.get("/admin/jobs/job/")
    sql = [query["sql"] for query in queries.captured_queries if "jobs_job" in query["sql"]]
    assert not any('"input"' in q or '"result"' in q or "COUNT" in q for q in sql)


def test_the_list_has_pages(team: Team) -> None:
    client = login(team)
    for _ in range(51):
        make_job(team)
    links = [
        len(set(re.findall(r"/admin/jobs/job/([0-9a-f-]{36})/", text(client.get(f"/admin/jobs/job/?p={n}")))))
        for n in (1, 2)
    ]
    assert links == [50, 1]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("state=succeeded", True),
        ("state=failed", False),
        ("model=wine", True),
        ("model=gone", False),
        ("version=1", True),
        ("version=2", False),
        ("model=wine&version=1&state=succeeded", True),
        ("accepted_at_from=2001-01-01", True),
        ("accepted_at_to=2001-01-01", False),
        ("accepted_at_from=nonsense", True),
    ],
)
def test_the_list_is_filtered(team: Team, query: str, found: bool) -> None:
    job = make_job(team)
    assert (job_url(job) in text(login(team).get(f"/admin/jobs/job/?{query}"))) is found


def test_the_last_day_of_a_range_is_included(team: Team) -> None:
    job = make_job(team)
    assert job_url(job) in text(login(team).get(f"/admin/jobs/job/?accepted_at_to={timezone.now():%Y-%m-%d}"))


def test_a_job_is_found_by_its_id(team: Team, other_team: Team) -> None:
    job, another, foreign = make_job(team), make_job(team), make_job(other_team)
    client = login(team, Role.VIEWER)
    page = text(client.get(f"/admin/jobs/job/?q={job.id}"))
    assert job_url(job) in page and job_url(another) not in page
    assert job_url(foreign) not in text(client.get(f"/admin/jobs/job/?q={foreign.id}"))
    assert "whole id" in text(client.get("/admin/jobs/job/?q=abc"))


@pytest.mark.parametrize("path", ["add/", "{id}/delete/"])
def test_even_an_operator_neither_adds_nor_deletes_jobs(team: Team, path: str) -> None:
    job = make_job(team)
    assert login(team).post("/admin/jobs/job/" + path.format(id=job.id), {"post": "yes"}).status_code == 403
    assert Job.objects.filter(id=job.id).exists()


# A job's page


def test_a_finished_job_shows_its_result_and_input_and_looks_no_more(team: Team) -> None:
    page = text(login(team, Role.VIEWER).get(job_url(make_job(team))))
    assert "probability of class_1" in page and "0.125" in page
    assert "<dt>proline</dt><dd>12</dd>" in page
    assert "job.js" not in page and "data-open" not in page and "Cancel job" not in page


def test_only_the_beginning_of_a_long_input_is_shown(team: Team) -> None:
    page = text(login(team).get(job_url(make_job(team, rows=60))))
    assert "and 10 more rows" in page
    assert "<td>637</td>" in page and "<td>650</td>" not in page


@pytest.mark.parametrize("fields", [{"model": "gone"}, {"sha256": "0" * 64}])
def test_a_job_of_a_model_that_is_gone_shows_column_numbers(team: Team, fields: dict[str, Any]) -> None:
    page = text(login(team).get(job_url(make_job(team, **fields))))
    assert "column 12" in page and "proline" not in page


def test_an_open_job_looks_again_and_says_when_nobody_serves_it(team: Team) -> None:
    job = make_job(team, State.QUEUED)
    client = login(team, Role.VIEWER)
    page = text(client.get(job_url(job)))
    assert "job.js" in page and "data-open" in page and "No live worker serves wine:1" in page
    make_worker()
    assert "No live worker" not in text(client.get(job_url(job)))


@pytest.mark.parametrize("role", list(Role))
def test_a_failed_job_says_why_and_only_operators_see_the_traceback(team: Team, role: Role) -> None:
    job = make_job(team, State.FAILED, error_code="model-error", error_message="it broke")
    Attempt.objects.create(
        job=job, number=1, finished_at=timezone.now(), code="model-error", message="it broke", traceback="Traceback: x"
    )
    page = text(login(team, role).get(job_url(job)))
    assert "The model failed" in page and "it broke" in page and "/problems/model-error" in page
    assert ("Traceback: x" in page) is (role is Role.OPERATOR)


@pytest.mark.parametrize(
    ("state", "code", "words"),
    [
        (State.CANCELLED, "", "The job was cancelled"),
        (State.DEAD_LETTERED, "lease-expired", "The job was given up"),
        (State.FAILED, "bad-data", "The model refused the data"),
        (State.RETRYING, "model-unavailable", "Attempt 1 failed (model-unavailable: why)"),
    ],
)
def test_each_kind_of_trouble_is_put_in_words(team: Team, state: State, code: str, words: str) -> None:
    job = make_job(team, state, attempt=2, error_code=code, error_message="why")
    assert words in text(login(team, Role.VIEWER).get(job_url(job)))


@pytest.mark.parametrize("suffix", ["", "history/"])
def test_another_teams_job_is_as_unknown_as_none(team: Team, other_team: Team, suffix: str) -> None:
    client = login(team, Role.SUBMITTER)
    foreign = make_job(other_team, State.QUEUED)
    absent = Job(id="00000000-0000-4000-8000-000000000000")
    answers = [client.get(job_url(job).replace("change/", suffix or "change/")) for job in (foreign, absent)]
    assert [a.status_code for a in answers] == [302, 302]
    answers = [client.post(cancel_url(job)) for job in (foreign, absent)]
    assert [(a.status_code, a["Location"]) for a in answers] == [(302, "/admin/jobs/job/")] * 2
    foreign.refresh_from_db()
    assert foreign.state == State.QUEUED


@pytest.mark.parametrize("nonsense", ["x", "1/2", "_", "%00"])
def test_a_nonsensical_id_is_unknown(team: Team, nonsense: str) -> None:
    assert login(team).get(f"/admin/jobs/job/{nonsense}/change/").status_code in (302, 404)


# Cancelling


@pytest.mark.parametrize(
    ("role", "state"), [(Role.VIEWER, "queued"), (Role.SUBMITTER, "cancelled"), (Role.OPERATOR, "cancelled")]
)
def test_submitters_cancel_their_teams_open_jobs(team: Team, role: Role, state: str) -> None:
    job = make_job(team, State.QUEUED)
    client = login(team, role)
    assert ("Cancel job" in text(client.get(job_url(job)))) is (role is not Role.VIEWER)
    assert client.post(cancel_url(job)).status_code == (403 if role is Role.VIEWER else 302)
    job.refresh_from_db()
    assert job.state == state


def test_cancelling_takes_a_post_with_the_token(team: Team) -> None:
    job = make_job(team, State.QUEUED)
    client = login(team)
    assert client.get(cancel_url(job)).status_code == 405
    client.handler.enforce_csrf_checks = True
    assert client.post(cancel_url(job)).status_code == 403
    job.refresh_from_db()
    assert job.state == State.QUEUED


def test_cancelling_too_late_says_so(team: Team) -> None:
    answer = login(team).post(cancel_url(make_job(team)), follow=True)
    assert "can&#x27;t be cancelled any more" in text(answer)


# New prediction


def test_the_example_becomes_a_queued_job_with_the_same_numbers(team: Team) -> None:
    client = login(team, Role.SUBMITTER)
    shown = client.get(PREDICT + "?example").context["form"].initial
    answer = client.post(PREDICT, shown)
    job = Job.objects.get()
    assert answer["Location"] == job_url(job)
    assert (job.team, job.submitted_by, job.state, job.rows) == (team, "submitter-person", "queued", 1)
    expected = np.array([float(value) for value in example().values()], dtype="<f4")
    assert bytes(job.input) == expected.tobytes()


def test_wrong_values_are_said_at_their_fields_and_nothing_is_queued(team: Team) -> None:
    typed = {**example(), "column_0": "abc", "column_1": "-5", "column_2": "", "column_11": "1e9", "column_3": "inf"}
    answer = login(team, Role.SUBMITTER).post(PREDICT, typed)
    errors = {name: list(messages) for name, messages in answer.context["form"].errors.items()}
    assert errors == {
        "column_0": ["Enter a number, such as 1.5."],
        "column_1": ["-5 is outside the range 0 to 1000"],
        "column_2": ["A value is required."],
        "column_3": ["Enter a number, such as 1.5."],
        "column_11": ["1e+09 is outside the range 0 to 1000"],
    }
    assert 'value="abc"' in text(answer) and 'value="-5"' in text(answer)
    assert not Job.objects.exists()


def test_an_empty_field_is_a_missing_value_only_where_the_column_allows_it(team: Team, monkeypatch: Any) -> None:
    release = model_store().get("wine", "1")
    columns = release.manifest.columns
    columns = (columns[0].model_copy(update={"missing": True}), *columns[1:])
    changed = type(release)(
        release.manifest.model_copy(update={"columns": columns}), release.folder, type(release.schema)(columns)
    )
    monkeypatch.setattr(model_store(), "get", lambda *args: changed)
    client = login(team, Role.SUBMITTER)
    assert client.post(PREDICT, {**example(), "column_1": ""}).status_code == 200
    client.post(PREDICT, {**example(), "column_0": ""})
    assert np.isnan(np.frombuffer(bytes(Job.objects.get().input), "<f4")[0])


@pytest.mark.parametrize("path", ["wine/99/", "gone/1/"])
def test_a_model_that_is_not_served_leads_back_to_the_choice(team: Team, path: str) -> None:
    assert login(team).get(f"/admin/predict/{path}")["Location"] == "/admin/predict/"


def test_a_viewer_cant_submit_by_posting(team: Team) -> None:
    assert login(team, Role.VIEWER).post(PREDICT, example()).status_code == 403
    assert not Job.objects.exists()


# Models and workers


def test_the_models_page_tells_which_are_served_and_which_manifests_are_wrong(
    team: Team, monkeypatch: Any, settings: Any
) -> None:
    make_worker()
    problem = ManifestError(settings.MODEL_STORE / "bad" / "1" / "manifest.yaml", 7, f"version: {EVIL}")
    store = model_store()
    snapshot = Snapshot(store.snapshot().releases, (problem,))
    monkeypatch.setattr(store, "snapshot", lambda: snapshot)
    answer = login(team, Role.VIEWER).get("/admin/models/")
    served = {release["manifest"].model: release["served"] for release in answer.context["releases"]}
    assert served == {"wine": True, "breast_cancer": False, "churn": False, "diabetes": False}
    assert "Not served: bad/1/manifest.yaml, line 7" in text(answer)
    assert str(settings.MODEL_STORE) not in text(answer) and EVIL not in text(answer)


def test_a_silent_worker_is_shown_as_silent(team: Team) -> None:
    make_worker()
    make_worker("quiet@host", timedelta(minutes=1))
    page = text(login(team, Role.VIEWER).get("/admin/jobs/worker/"))
    assert re.findall(r">\s*(alive|silent)\s*<", page) == ["alive", "silent"]


# Access


def test_a_key_is_shown_once_and_its_hash_never(team: Team) -> None:
    client = login(team)
    new = {"name": "robot", "team": team.pk, "role": Role.SUBMITTER, "expiry_date_0": "", "expiry_date_1": ""}
    page = text(client.post("/admin/accounts/apikey/add/", new, follow=True))
    key = ApiKey.objects.get()
    shown = re.search(rf"{re.escape(key.prefix)}\.[A-Za-z0-9]+", page)
    assert shown and (caller := caller_from_key(shown[0])) and caller.team_id == team.pk
    own_page = f"/admin/accounts/apikey/{key.prefix}/change/"
    pages = [page, *(text(client.get(url)) for url in ("/admin/accounts/apikey/", own_page))]
    assert shown[0] not in pages[1] + pages[2]
    assert own_page in pages[1] and 'name="name"' in pages[2]
    hashed = key.hashed_key.split("$")[-1]
    assert not any(hashed in p for p in pages)


def test_a_key_is_revoked_for_good(team: Team) -> None:
    key, _ = ApiKey.objects.create_key(name="robot", team=team)
    client = login(team)
    url = f"/admin/accounts/apikey/{key.prefix}/change/"
    form = {"name": "robot", "role": Role.VIEWER, "revoked": "on", "expiry_date_0": "", "expiry_date_1": ""}
    assert client.post(url, form).status_code == 302
    client.post(url, {**form, "revoked": ""})
    assert ApiKey.objects.filter(revoked=True, role=Role.VIEWER).exists()
    assert "revoked" in text(client.get("/admin/accounts/apikey/"))


def test_an_operator_makes_a_team_and_a_person_who_can_log_in(team: Team) -> None:
    client = login(team)
    assert client.post("/admin/accounts/team/add/", {"name": "new-team"}).status_code == 302
    new = Team.objects.get(name="new-team")
    person = {"username": "nina", "team": new.pk, "role": Role.VIEWER, "password1": PASSWORD, "password2": PASSWORD}
    assert client.post("/admin/accounts/user/add/", person).status_code == 302
    nina = User.objects.get(username="nina")
    assert Client().post("/admin/login/", {"username": "nina", "password": PASSWORD}).status_code == 302
    form = {"username": "nina", "team": new.pk, "role": Role.SUBMITTER, "is_active": "on"}
    assert client.post(f"/admin/accounts/user/{nina.pk}/change/", form).status_code == 302
    nina.refresh_from_db()
    assert (nina.role, nina.is_superuser, nina.is_staff) == (Role.SUBMITTER, False, False)
    assert client.get(f"/admin/accounts/user/{nina.pk}/password/").status_code == 200


@pytest.mark.parametrize("role", [Role.VIEWER, Role.SUBMITTER])
def test_nobody_raises_the_own_role(team: Team, role: Role) -> None:
    client = login(team, role)
    me = User.objects.get()
    form = {"username": me.username, "team": team.pk, "role": Role.OPERATOR, "is_active": "on"}
    assert client.post(f"/admin/accounts/user/{me.pk}/change/", form).status_code == 403
    me.refresh_from_db()
    assert me.role == role


# Markup


def test_nothing_gets_out_as_markup(team: Team) -> None:
    job = make_job(
        team,
        State.FAILED,
        submitted_by=EVIL,
        model=EVIL[:64],
        worker=EVIL,
        device="<b>",
        error_code="model-error",
        error_message=EVIL,
    )
    Attempt.objects.create(
        job=job, number=1, finished_at=timezone.now(), code="<b>", message=EVIL, traceback=EVIL, worker=EVIL
    )
    make_worker(EVIL)
    client = login(team)
    pages = [
        "/admin/",
        "/admin/jobs/job/",
        job_url(job),
        "/admin/jobs/worker/",
        f"/admin/jobs/job/?model={EVIL}&q={EVIL}",
    ]
    for page in pages:
        assert "<script>alert" not in text(client.get(page)), page
    answer = client.post(PREDICT, {**example(), "column_0": f'">{EVIL}'})
    assert "<script>alert" not in text(answer)


def test_a_result_from_a_worker_is_escaped(team: Team) -> None:
    outputs = [{"name": EVIL, "datatype": "BYTES", "shape": [1], "data": [EVIL]}]
    page = text(login(team).get(job_url(make_job(team, result=json.dumps(outputs).encode()))))
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page


@pytest.mark.parametrize(
    "page", ["/admin/", "/admin/jobs/job/", "/admin/models/", PREDICT, "/admin/accounts/apikey/add/"]
)
def test_pages_load_nothing_from_elsewhere(team: Team, page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text(login(team).get(page)))
