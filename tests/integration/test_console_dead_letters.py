"""The pages about dead letters, parked messages and the audit log: what they show, do and refuse, and to whom."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role, Team, User
from inference_portal.console.replay_form import MAX_CHARACTERS, ReplayForm
from inference_portal.jobs import dead_letters
from inference_portal.jobs.models import AuditEntry, Job, ParkedMessage, Worker
from inference_portal.jobs.states import State
from tests.integration.dead import MATRIX, dead, park, store
from tests.integration.rows import make_final, make_job, whole

pytestmark = pytest.mark.django_db

EVIL = "<script>alert('evil')</script>"
LIST = "/admin/console/deadletter/"
PARKED = "/admin/jobs/parkedmessage/"
AUDIT = "/admin/jobs/auditentry/"


@pytest.fixture(autouse=True)
def model_m(tmp_path: Path, settings: Any) -> Iterator[None]:
    with store(settings, tmp_path / "store"):
        yield


def login(team: Team, role: Role = Role.OPERATOR) -> Client:
    client = Client()
    client.force_login(User.objects.create(username=f"{role}-person-{uuid4().hex[:4]}", team=team, role=role))
    return client


@pytest.fixture
def operator(team: Team) -> Client:
    return login(team)


def text(response: Any) -> str:
    return str(response.content.decode())


def url(job: Job, view: str = "change") -> str:
    return f"{LIST}{job.id}/{view}/"


def replay(client: Client, job: Job, version: str, **fields: Any) -> Any:
    """Press the button, with the input as it is shown unless another is given."""
    form = ReplayForm(Job.objects.get(id=job.id))
    shown = {"rows": form["rows"].value()} if "rows" in form.fields else {}
    return client.post(url(job, "replay"), {"version": version, **shown, **fields}, follow=True)


def said(response: Any) -> list[str]:
    """The messages at the top of the page that an act led to."""
    return [str(message) for message in response.context["messages"]]


def select(client: Client, action: str, *entries: Any, page: str = LIST, **fields: Any) -> Any:
    chosen = {"action": action, "_selected_action": [str(entry.pk) for entry in entries], **fields}
    return client.post(page, chosen, follow=True)


# Who may


def test_only_operators_see_and_do_anything_here(team: Team) -> None:
    job, message = dead(team), park()
    before = whole(job.id)
    reads = [LIST, url(job), PARKED, f"{PARKED}{message.pk}/change/", AUDIT, f"{LIST}discard/"]
    acts = [
        url(job, "replay"), url(job, "discard"), f"{LIST}discard/", LIST,
        f"{PARKED}discard/", f"{PARKED}{message.pk}/discard/",
    ]  # fmt: skip
    form = {"version": "1", "reason": "x", "ids": str(job.id), "action": "replay_selected", "_selected_action": job.id}
    for role in (Role.VIEWER, Role.SUBMITTER):
        client = login(team, role)
        assert [client.get(path).status_code for path in reads] == [403] * len(reads)
        assert [client.post(path, form).status_code for path in acts] == [403] * len(acts)
        assert "Operations" not in text(client.get("/admin/"))
        assert "Waits for an operator" not in text(client.get("/admin/"))
        page = text(client.get(f"/admin/jobs/job/{job.id}/change/"))
        assert LIST not in page and "Audit log" not in page
    for path in reads:
        assert Client().get(path)["Location"].startswith("/admin/login/")
    assert whole(job.id) == before and not AuditEntry.objects.exists()


def test_nothing_is_added_changed_or_deleted_by_hand(operator: Client, team: Team) -> None:
    job, message = dead(team), park()
    entry = AuditEntry.objects.create(who="x", action="discard", job_id=job.id)
    for path in (LIST, PARKED, AUDIT):
        assert operator.get(f"{path}add/").status_code == 403
    for path in (f"{LIST}{job.id}", f"{PARKED}{message.pk}", f"{AUDIT}{entry.pk}"):
        assert operator.post(f"{path}/delete/", {"post": "yes"}).status_code == 403
    assert operator.get(f"{AUDIT}{entry.pk}/change/").status_code == 403
    select(operator, "delete_selected", job, post="yes")
    assert Job.objects.filter(id=job.id).exists() and AuditEntry.objects.exists()


def test_acts_take_a_post_with_the_token(operator: Client, team: Team) -> None:
    job, message = dead(team), park()
    acts = [url(job, "replay"), url(job, "discard"), f"{PARKED}{message.pk}/discard/"]
    assert [operator.get(path).status_code for path in acts] == [405] * 3
    operator.handler.enforce_csrf_checks = True
    assert [operator.post(path, {"reason": "x", "version": "1"}).status_code for path in acts] == [403] * 3
    assert not AuditEntry.objects.exists()


# The list


def test_the_list_has_what_waits_of_all_teams_the_latest_first(operator: Client, team: Team) -> None:
    now = timezone.now()
    other = Team.objects.create(name="theirs")
    old, new = dead(team, finished_at=now - timedelta(hours=1)), dead(other, finished_at=now)
    gone, fine = dead(team, discarded_at=now), make_final(team, State.SUCCEEDED)
    page = text(operator.get(LIST))
    assert page.index(url(new)) < page.index(url(old))
    assert url(gone) not in page and str(fine.id) not in page
    assert "worker-lost" in page and "it died" in page and "theirs" in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("model=m", True), ("model=gone", False), ("version=1", True), ("version=2", False), ("team__name=team", True),
        ("team__name=x", False), ("error_code=worker-lost", True), ("error_code=timed-out", False),
    ],
)  # fmt: skip
def test_the_list_is_filtered(operator: Client, team: Team, query: str, found: bool) -> None:
    job = dead(team)
    assert (url(job) in text(operator.get(f"{LIST}?{query}"))) is found


def test_one_is_found_by_its_id(operator: Client, team: Team) -> None:
    job, another = dead(team), dead(team)
    page = text(operator.get(f"{LIST}?q={job.id}"))
    assert url(job) in page and url(another) not in page
    assert "whole id" in text(operator.get(f"{LIST}?q=abc"))


def test_the_list_is_read_without_payloads(operator: Client, team: Team, django_assert_max_num_queries: Any) -> None:
    for _ in range(5):
        dead(team)
    # Session, user, the badge, the count, the list.
    with django_assert_max_num_queries(6) as queries:
        operator.get(LIST)
    assert not any('"input"' in query["sql"] or '"result"' in query["sql"] for query in queries.captured_queries)


def test_the_sidebar_and_the_dashboard_count_what_waits(operator: Client, team: Team) -> None:
    badge = re.compile(r"min-w-\[18px\][^>]*>\s*([\d,+]+)\s*<")
    assert badge.findall(text(operator.get("/admin/"))) == []
    dead(team), dead(team), dead(team, discarded_at=timezone.now()), park(), park(discarded_at=timezone.now())
    answer = operator.get("/admin/")
    assert [(item["text"], item["count"]) for item in answer.context["waiting"]] == [
        ("dead letters", "2"),
        ("parked messages", "1"),
    ]
    assert all(operator.get(item["url"]).status_code == 200 for item in answer.context["waiting"])
    assert badge.findall(text(answer)) == badge.findall(text(operator.get(LIST))) == ["2"]


# Many at once


def test_the_chosen_ones_are_replayed_and_what_was_refused_is_said(operator: Client, team: Team) -> None:
    first, second, bad, left = dead(team), dead(team), dead(team, version="9"), dead(team)
    answer = select(operator, "replay_selected", first, second, bad)
    assert said(answer)[0] == "Back in the queue: 2."
    assert said(answer)[1].startswith(f"Not {str(bad.id)[:8]}: model 'm' has no version '9'")
    states = [whole(job.id)["state"] for job in (first, second, bad, left)]
    assert states == ["queued", "queued", "dead_lettered", "dead_lettered"]
    assert AuditEntry.objects.filter(who__startswith="operator-person").count() == 2


def test_discarding_the_chosen_ones_asks_for_a_reason_first(operator: Client, team: Team) -> None:
    first, second, left = dead(team), dead(team), dead(team)
    asked = select(operator, "discard_selected", first, second)
    assert "Selected: 2." in text(asked)
    ids = re.search(r'name="ids" value="([^"]+)"', text(asked))
    assert ids and set(ids[1].split(",")) == {str(first.id), str(second.id)}
    again = operator.post(f"{LIST}discard/", {"ids": ids[1], "reason": " "})
    assert "Please say why." in text(again) and ids[1] in text(again) and not AuditEntry.objects.exists()
    done = operator.post(f"{LIST}discard/", {"ids": ids[1] + ",nonsense", "reason": "of no use"}, follow=True)
    assert said(done) == ["Discarded: 2.", "Not nonsense: There is no dead letter 'nonsense'."]
    assert [whole(job.id)["discarded_at"] is None for job in (first, second, left)] == [False, False, True]
    assert set(AuditEntry.objects.values_list("action", "reason")) == {("discard", "of no use")}


def test_of_many_refusals_a_few_are_named(operator: Client, team: Team) -> None:
    jobs = [dead(team, version="9") for _ in range(8)]
    messages = said(select(operator, "replay_selected", *jobs))
    assert len(messages) == 6 and messages[-1] == "Nor 3 more."


def test_all_pages_at_once_are_at_most_a_thousand(operator: Client, team: Team, monkeypatch: Any) -> None:
    monkeypatch.setattr(dead_letters, "MAX_BULK", 2)
    jobs = [dead(team) for _ in range(3)]
    assert said(select(operator, "replay_selected", jobs[0], select_across="1")) == ["Back in the queue: 2."]


# One of them


def test_the_page_shows_why_all_attempts_and_the_input_to_be_edited(operator: Client, team: Team) -> None:
    job = dead(team)
    answer = operator.get(url(job))
    page = text(answer)
    assert all(f"Traceback {number}" in page for number in (1, 2, 3)) and "machine-5" in page
    assert "it died" in page and f"/admin/jobs/job/{job.id}/change/" in page
    form = answer.context["replay_form"]
    assert json.loads(form["rows"].value()) == [{"a": 1.5, "b": None, "c": 0.1}, {"a": 2.5, "b": 3.5, "c": -4.0}]
    assert [value for value, _ in form.fields["version"].choices] == ["5", "4", "3", "2", "1"]
    assert form["version"].value() == "1"


def test_a_replay_leads_back_to_the_list_with_a_link_to_the_job(operator: Client, team: Team) -> None:
    job = dead(team)
    shown = operator.get(url(job)).context["replay_form"]["rows"].value()
    # As browsers send it.
    answer = operator.post(
        url(job, "replay"), {"version": "1", "rows": shown.replace("\n", "\r\n") + "\r\n"}, follow=True
    )
    assert answer.redirect_chain == [(LIST, 302)]
    assert f'href="/admin/jobs/job/{job.id}/change/"' in said(answer)[0]
    after = whole(job.id)
    assert (after["state"], after["attempt"], after["input"]) == ("queued", 4, MATRIX.tobytes())
    assert AuditEntry.objects.get().changes == {}


def test_unchanged_it_goes_to_another_version_by_the_columns_names(operator: Client, team: Team) -> None:
    job = dead(team)
    replay(operator, job, "2")
    after = whole(job.id)
    assert (after["version"], after["input"]) == ("2", np.ascontiguousarray(MATRIX[:, [2, 0]]).tobytes())


def test_an_edited_input_goes_instead(operator: Client, team: Team) -> None:
    job = dead(team)
    replay(operator, job, "3", rows='[{"a": 1, "b": null, "c": 2, "d": 3, "e/f": 4}]')
    after = whole(job.id)
    assert (after["version"], after["rows"]) == ("3", 1)
    assert after["input"] == np.array([[1, np.nan, 2, 3, 4]], "<f4").tobytes()
    assert AuditEntry.objects.get().changes.keys() == {"version", "model_sha256", "rows", "input_sha256"}


@pytest.mark.parametrize(
    ("version", "rows", "field", "words"),
    [
        ("1", "[", "rows", "This is not JSON"),
        ("1", "", "rows", "This is not JSON"),
        ("1", "{}", "rows", "'rows' is not a list"),
        ("1", '[{"a": 1, "b": 1, "c": 1000}]', "rows", "Row 0, column 'c': 1000 is outside the range"),
        ("1", '[{"a": 1}]', "rows", "Row 0: column 'c' is missing"),
        ("1", "[\0]", "rows", "Null characters"),
        ("3", None, "rows", "needs the column 'd'"),
        ("4", None, "version", "asked for the output 'label'"),
        ("9", None, "version", "Select a valid choice"),
        ("", None, "version", "This field is required"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_changes(
    operator: Client, team: Team, version: str, rows: str | None, field: str, words: str
) -> None:
    job = dead(team)
    before = whole(job.id)
    answer = replay(operator, job, version, **({} if rows is None else {"rows": rows}))
    errors = answer.context["replay_form"].errors
    assert words in " ".join(errors[field]), errors
    assert rows is None or answer.context["replay_form"]["rows"].value() == rows
    assert whole(job.id) == before and not AuditEntry.objects.exists()


def test_without_the_columns_names_somebody_has_to_say_that_the_values_fit(operator: Client, team: Team) -> None:
    job = dead(team, version="9")
    answer = operator.get(url(job))
    form = answer.context["replay_form"]
    assert json.loads(form["rows"].value()) == [[1.5, None, 0.1], [2.5, 3.5, -4.0]]
    assert "Its own, 9, is no longer served." in text(answer) and "names are unknown" in text(answer)
    typed = {"version": "1", "rows": form["rows"].value()}
    refused = operator.post(url(job, "replay"), typed)
    assert "nobody knows its input" in refused.context["replay_form"].errors["rows"][0]
    assert operator.post(url(job, "replay"), {**typed, "in_order": "on"}).status_code == 302
    assert (whole(job.id)["version"], whole(job.id)["input"]) == ("1", MATRIX.tobytes())


def test_a_large_input_goes_along_as_it_is(operator: Client, team: Team) -> None:
    rows = MAX_CHARACTERS // 12 + 1
    job = dead(team, rows=rows, input=np.ones((rows, 3), "<f4").tobytes())
    page = text(operator.get(url(job)))
    assert "Too large to be edited here" in page and "<textarea" in page and 'name="rows"' not in page
    assert operator.post(url(job, "replay"), {"version": "1", "rows": "[]"}).status_code == 302
    assert whole(job.id)["rows"] == rows
    refused = operator.post(url(dead(team, rows=rows, input=job.input), "replay"), {"version": "3"})
    assert "needs the column" in text(refused)


def test_an_input_that_is_gone_has_to_be_written_again(operator: Client, team: Team) -> None:
    job = dead(team, input=b"", purged_at=timezone.now())
    assert "was removed when it grew old" in text(operator.get(url(job)))
    assert "removed when it grew old" in text(operator.post(url(job, "replay"), {"version": "1", "rows": ""}))
    assert operator.post(url(job, "replay"), {"version": "1", "rows": "[[1, 2, 3]]"}).status_code == 302


def test_a_model_that_is_gone_leaves_only_the_discard(operator: Client, team: Team) -> None:
    job = dead(team, model="gone")
    assert operator.get(url(job)).status_code == 200
    answer = operator.post(url(job, "replay"), {"version": "1", "rows": "[[1, 2, 3]]"})
    assert "Select a valid choice" in " ".join(answer.context["replay_form"].errors["version"])


def test_one_is_discarded_with_a_reason(operator: Client, team: Team) -> None:
    job = dead(team)
    assert "Please say why." in text(operator.post(url(job, "discard"), {"reason": ""}))
    assert "1 to 1,000 characters" in text(operator.post(url(job, "discard"), {"reason": "x" * 1001}))
    done = operator.post(url(job, "discard"), {"reason": "of no use"}, follow=True)
    assert (done.redirect_chain, said(done)) == ([(LIST, 302)], ["Discarded: 1."])
    page = text(operator.get(url(job)))
    assert "It was discarded at" in page and "of no use" in page and 'name="rows"' not in page
    assert url(job, "replay") not in page and url(job, "discard") not in page


def test_who_comes_late_is_told_so(operator: Client, team: Team) -> None:
    replayed, discarded, unknown = dead(team), dead(team), make_job(team)
    replay(operator, replayed, "1")
    dead_letters.discard(job_id=discarded.id, caller=Caller(team.pk, Role.OPERATOR, "x"), reason="x")
    late = replay(operator, replayed, "1")
    assert "may have been replayed meanwhile" in said(late)[0]
    late = replay(operator, discarded, "1")
    assert "was discarded at" in said(late)[0]
    late = operator.post(url(discarded, "discard"), {"reason": "x"}, follow=True)
    assert "was discarded at" in said(late)[0]
    for key in (unknown.id, uuid4(), "nonsense", "%00"):
        answer = operator.get(f"{LIST}{key}/change/", follow=True)
        assert answer.status_code == 404 or "There is no dead letter" in said(answer)[0]


# The job's own page, the workers


def test_the_jobs_page_leads_to_the_dead_letter_and_shows_what_was_done(operator: Client, team: Team) -> None:
    job = dead(team, host="machine-5")
    job_url = f"/admin/jobs/job/{job.id}/change/"
    page = text(operator.get(job_url))
    assert url(job) in page and "machine-5" in page and "<dt>Tried alone</dt><dd>yes</dd>" in page
    replay(operator, job, "2")
    page = text(operator.get(job_url))
    assert url(job) not in page and "Audit log" in page and "version 1 → 2" in page and "operator-person" in page


@pytest.mark.parametrize(
    ("state", "fields", "words"),
    [
        (State.EXPIRED, {"error_code": "expired", "error_message": "too late"}, "The job expired"),
        (State.FAILED, {"error_code": "of-a-later-version", "error_message": "x"}, "The model failed"),
        (State.SUCCEEDED, {"purged_at": timezone.now(), "input": b"", "result": None}, "The result is gone"),
    ],
)
def test_the_jobs_page_knows_every_end(operator: Client, team: Team, state: State, fields: Any, words: str) -> None:
    job = make_final(team, state, model="m", sha256=sha256(b"1").hexdigest(), **({"input": MATRIX[:1].tobytes()} | fields))  # fmt: skip  # noqa: E501
    assert words in text(operator.get(f"/admin/jobs/job/{job.id}/change/"))


def test_a_worker_shows_what_it_cant_load(operator: Client) -> None:
    usual: dict[str, Any] = {"host": "h", "pools": ["cpu"], "device": "cpu", "processes": 1, "serves": []}
    Worker.objects.create(name="a", seen_at=timezone.now(), problems=["m:1: broken", f"m:2: {EVIL}"], **usual)
    page = text(operator.get("/admin/jobs/worker/"))
    assert "m:1: broken<br>m:2: &lt;script&gt;" in page


# Parked messages and the audit log


def test_a_parked_message_is_shown_and_discarded(operator: Client) -> None:
    message, binary, left = (
        park(headers='{"x-death": [1]}'),
        park(body=bytes(range(256)) * 100, size=25_600),
        park(headers="NaN"),
    )
    assert f"{PARKED}{message.pk}/change/" in text(operator.get(PARKED))
    page = text(operator.get(f"{PARKED}{message.pk}/change/"))
    assert "body" in page and "not a bundle" in page and "x-death" in page and "Only the beginning" not in page
    assert "Only the beginning" in text(operator.get(f"{PARKED}{binary.pk}/change/"))
    assert operator.get(f"{PARKED}{left.pk}/change/").status_code == 200
    assert "It is empty." in text(operator.get(f"{PARKED}{park(body=b'', discarded_at=timezone.now()).pk}/change/"))
    assert "Please say why." in text(operator.post(f"{PARKED}{message.pk}/discard/", {"reason": ""}))
    done = operator.post(f"{PARKED}{message.pk}/discard/", {"reason": "a test"}, follow=True)
    assert said(done) == ["Discarded: 1."]
    assert "It was discarded at" in text(operator.get(f"{PARKED}{message.pk}/change/"))
    late = operator.post(f"{PARKED}{message.pk}/discard/", {"reason": "a test"}, follow=True)
    assert "was discarded before" in said(late)[0]
    asked = select(operator, "discard_selected", binary, page=PARKED)
    assert f'value="{binary.pk}"' in text(asked)
    done = operator.post(f"{PARKED}discard/", {"ids": f"{binary.pk},x,{10**30}", "reason": "another"}, follow=True)
    assert said(done)[0] == "Discarded: 1." and len(said(done)) == 3
    assert list(ParkedMessage.objects.filter(discarded_at=None)) == [left]
    assert list(AuditEntry.objects.values_list("message_id", "reason")) == [(binary.pk, "another"), (message.pk, "a test")]  # fmt: skip  # noqa: E501


@pytest.mark.parametrize("key", ["0", "x", "²", "99999999999999999999999", "%00"])
def test_a_message_that_never_was_is_unknown(operator: Client, key: str) -> None:
    answer = operator.get(f"{PARKED}{key}/change/", follow=True)
    assert answer.status_code == 404 or "There is no message" in said(answer)[0]


def test_the_audit_log_tells_who_did_what_to_which(operator: Client, team: Team) -> None:
    job, other, message = dead(team), dead(team), park()
    replay(operator, job, "2")
    operator.post(url(other, "discard"), {"reason": "of no use"})
    operator.post(f"{PARKED}{message.pk}/discard/", {"reason": "a test"})
    page = text(operator.get(AUDIT))
    assert f"/admin/jobs/job/{job.id}/change/" in page and f"message {message.pk}" in page
    assert "version 1 → 2" in page and "of no use" in page and "operator-person" in page
    assert page.index("a test") < page.index("of no use")
    found = text(operator.get(f"{AUDIT}?q=useless")) + text(operator.get(f"{AUDIT}?action__exact=replay"))
    assert "of no use" not in found and str(job.id) in found


# Markup and odd parameters


def test_nothing_gets_out_as_markup(operator: Client, team: Team) -> None:
    job = dead(team, error_message=EVIL, submitted_by=EVIL, worker=EVIL, host=EVIL, error_code="<b>")
    job.failed_attempts.update(code="<b>", message=EVIL, traceback=EVIL, host=EVIL, worker=EVIL)
    message = park(error=EVIL, queue=EVIL, reason=EVIL, headers=json.dumps({EVIL: EVIL}), body=EVIL.encode())
    AuditEntry.objects.create(who=EVIL, action="discard", job_id=job.id, reason=EVIL, changes={EVIL: [EVIL, EVIL]})
    pages = [LIST, url(job), PARKED, f"{PARKED}{message.pk}/change/", AUDIT, f"/admin/jobs/job/{job.id}/change/"]
    for path in (*pages, f"{LIST}?model={EVIL}&q={EVIL}"):
        assert "<script>alert" not in text(operator.get(path)), path
    for view, form in (("replay", {"version": EVIL, "rows": EVIL}), ("discard", {"reason": EVIL * 100})):
        assert "<script>alert" not in text(operator.post(url(job, view), form))
    ids = operator.post(f"{LIST}discard/", {"ids": f'">{EVIL},{EVIL}', "reason": ""})
    assert "<script>alert" not in text(ids)
    done = operator.post(f"{LIST}discard/", {"ids": EVIL, "reason": "x"}, follow=True)
    assert "<script>alert" not in text(done)


@pytest.mark.parametrize("page", [LIST, PARKED, AUDIT, "/admin/jobs/job/"])
@pytest.mark.parametrize("query", ["model=%00", "team__name=%00", "error_code=%00", "queue=%00", "q=%00", "p=x", "o=9"])
def test_an_odd_parameter_is_no_error_of_ours(operator: Client, team: Team, page: str, query: str) -> None:
    dead(team), park()
    assert operator.get(f"{page}?{query}").status_code in (200, 302, 400)


@pytest.mark.parametrize("page", [LIST, PARKED, AUDIT])
def test_pages_load_nothing_from_elsewhere(operator: Client, page: str) -> None:
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', text(operator.get(page)))
