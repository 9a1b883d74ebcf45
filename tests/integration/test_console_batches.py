"""The pages about batches: the list, one batch, the form for a new one; and a step's job, whose input is no matrix."""

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.batches.models import Batch
from inference_portal.batches.states import FINAL, State
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import State as JobState
from tests.integration import rows
from tests.integration.http import session
from tests.integration.made_batches import ERRORS, add_chunks, make_batch, make_done
from workers.datasets import place

pytestmark = pytest.mark.django_db
LIST = "/admin/batches/batch/"
NEW = "/admin/new-batch/"
FORM = {
    "model": "wine",
    "uri": "",
    "input_format": "auto",
    "delimiter": ",",
    "encoding": "utf-8",
    "header": "on",
    "output_format": "parquet",
    "output_uri": "",
    "keep_columns": "",
    "retry_policy": "partial",
    "max_attempts": "3",
    "chunk_rows": "100000",
    "error_threshold": "",
    "deadline": "",
}


@pytest.fixture(autouse=True)
def storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A storage of this test's own, and a folder that batches may use."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATA_FOLDERS", str(tmp_path / "shared"))
    return tmp_path / "data"


@pytest.fixture
def browser(team: Team) -> Client:
    """A submitter's browser."""
    return session(team, role=Role.SUBMITTER)


def text(answer: Any) -> str:
    assert answer.status_code == 200, (answer.status_code, answer.content)
    return str(answer.content.decode())


def page(batch: Batch) -> str:
    return f"{LIST}{batch.id}/change/"


def step(batch: Batch, **fields: Any) -> Job:
    usual = {"step": "chunk", "batch_id": batch.id, "pool": "batch", "input": b'{"number": 4711}', "rows": 100}
    make = rows.make_final if "state" in fields else rows.make_job
    return make(batch.team, **{**usual, **fields})


def test_the_list_shows_progress_and_only_the_teams_own(team: Team, browser: Client) -> None:
    batch = make_batch(
        team, State.RUNNING, rows_failed=100, deadline=timezone.now() + timedelta(hours=1), pace=5.0, at_risk=True
    )
    foreign = make_batch(rows.make_team("other"))
    shown = text(browser.get(LIST))
    assert str(batch.id)[:8] in shown and str(foreign.id)[:8] not in shown
    assert "500 of 1,000 rows, 100 failed, " in shown and "rows/s" in shown and "(at risk)" in shown
    assert "width: 40.00%" in shown and "width: 10.00%" in shown
    assert str(foreign.id)[:8] in text(session(team, role=Role.OPERATOR).get(LIST))
    assert str(batch.id)[:8] not in text(browser.get(f"{LIST}?state=failed"))


@pytest.mark.parametrize("state", State)
def test_a_page_in_every_state(team: Team, browser: Client, state: State) -> None:
    batch = make_batch(team, state, note="waits for batch workers" if state is State.QUEUED else "")
    shown = text(browser.get(page(batch)))
    assert ("Cancel batch" in shown) is (state not in FINAL)
    assert ("Run all of it again" in shown) is (state in FINAL)
    assert ("data-open" in shown) is (state not in FINAL)
    assert ("600 of 1,000 rows failed" in shown) is (state is State.FAILED)
    assert ("waits for batch workers" in shown) is (state is State.QUEUED)
    viewer = text(session(team, role=Role.VIEWER).get(page(batch)))
    assert "Cancel batch" not in viewer and "again" not in viewer


def test_failed_chunks_come_first_and_lead_to_their_jobs(team: Team, browser: Client) -> None:
    batch = make_batch(team, State.RUNNING, chunks_total=120)
    add_chunks(batch, 120, state="done")
    job = step(batch)
    batch.chunks.filter(number=117).update(state="failed", reason="the storage <went> away", job_id=job.id)
    shown = text(browser.get(page(batch)))
    assert "the storage &lt;went&gt; away" in shown and "11,700 to 11,799" in shown
    assert shown.index("11,700 to 11,799") < shown.index("0 to 99")
    assert f"/admin/jobs/job/{job.id}/change/" in shown and "and 20 more" in shown


def test_the_files_are_there_to_download_until_they_are_removed(team: Team, browser: Client) -> None:
    batch = make_done(team, errors=ERRORS)
    shown = text(browser.get(page(batch)))
    for end in ("output/", "errors/"):
        assert f'href="/api/batches/{batch.id}/{end}"' in shown
        assert browser.get(f"/api/batches/{batch.id}/{end}").status_code == 200
    assert "Receipt" in shown and batch.receipt is not None and batch.receipt["output"]["sha256"] in shown
    Batch.objects.update(purged_at=timezone.now())
    shown = text(browser.get(page(batch)))
    assert "were removed at" in shown and "/output/" not in shown


def test_buttons_cancel_change_and_rerun(team: Team, browser: Client) -> None:
    batch = make_batch(team, State.RUNNING)
    add_chunks(batch, 10)

    def press(action: str, **fields: str) -> str:
        answer = browser.post(f"{LIST}{batch.id}/{action}/", fields, follow=True)
        batch.refresh_from_db()
        return text(answer)

    assert "goes on with this policy" in press("change-run", retry_policy="none") and batch.retry_policy == "none"
    assert "expected one of" in press("change-run", retry_policy="sometimes")
    assert "only one that has ended" in press("rerun", retry_policy="all")
    assert "The batch was cancelled." in press("cancel") and batch.state == "cancelled"
    assert "ended already" in press("cancel")
    assert "under way again" in press("rerun", retry_policy="all") and (batch.state, batch.attempt) == ("queued", 2)


def test_another_teams_batch_is_unknown_and_stays_as_it_is(team: Team, browser: Client) -> None:
    foreign = make_batch(rows.make_team("other"), State.RUNNING)
    for batch_id in (foreign.id, uuid4()):
        assert f"There is no batch {batch_id}." in text(browser.get(f"{LIST}{batch_id}/change/", follow=True))
        for action in ("cancel", "rerun", "change-run"):
            browser.post(f"{LIST}{batch_id}/{action}/", {"retry_policy": "all"})
    foreign.refresh_from_db()
    assert (foreign.state, foreign.retry_policy) == ("running", "partial")


# New batch


def test_a_file_from_the_browser_becomes_a_batch(team: Team, browser: Client) -> None:
    assert "wine: the version that takes the traffic" in text(browser.get(NEW))
    file = SimpleUploadedFile("wines.csv", b"alcohol\n" + b"1\n" * 2_000_000)
    answer = browser.post(NEW, {**FORM, "file": file, "keep_columns": "id, name", "error_threshold": "0.5"})
    batch = Batch.objects.get()
    assert answer.status_code == 302 and answer["Location"] == page(batch)
    assert batch.keep_columns == ["id", "name"] and batch.error_threshold == 0.5 and batch.team == team
    with place.open_input(batch.input["uri"]) as stored:
        assert stored.size() == 8 + 4_000_000


def test_a_named_data_set_becomes_a_batch_of_a_named_version(browser: Client, tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/shared/a.csv"
    browser.post(NEW, {**FORM, "model": "wine:1", "uri": uri, "deadline": "2050-01-01T00:00:00Z", "delimiter": ";"})
    batch = Batch.objects.get()
    assert (batch.version, batch.input["uri"], batch.input["delimiter"]) == ("1", uri, ";")
    assert batch.deadline is not None and batch.deadline.year == 2050


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "Upload a file, or name a data set."),
        ({"uri": "ftp://x"}, "expected store://"),
        ({"uri": "file:///etc/passwd"}, "DATA_FOLDERS"),
        ({"uri": "store://uploads/999/x/y.csv"}, "our team has nothing at"),
        ({"uri": "{right}", "deadline": "tomorrow"}, "Expected a time with its zone"),
        ({"uri": "{right}", "chunk_rows": "0"}, "Expected a whole number from 1"),
        ({"uri": "{right}", "chunk_rows": "many"}, "Enter a whole number"),
        ({"uri": "{right}", "error_threshold": "7"}, "Expected a share of the rows"),
        ({"uri": "{right}", "keep_columns": "a,a"}, "is there twice"),
        ({"uri": "{right}", "output_uri": "store://x/y"}, "leave it out"),
        ({"uri": "{right}", "delimiter": "::"}, "one character"),
        ({"uri": "{right}", "encoding": "klingon"}, "klingon"),
        ({"uri": "{right}", "model": "nothing"}, "Select a valid choice"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_stored(
    browser: Client, tmp_path: Path, storage: Path, fields: dict[str, str], said: str
) -> None:
    right = f"file://{tmp_path}/shared/a.csv"
    shown = text(browser.post(NEW, FORM | {name: value.replace("{right}", right) for name, value in fields.items()}))
    assert said.lower() in shown.lower() and "Nothing was submitted" in shown
    assert not Batch.objects.exists()


def test_a_file_that_is_too_large_is_refused(browser: Client, settings: Any, storage: Path) -> None:
    settings.MAX_UPLOAD_BYTES = 1_000
    shown = text(browser.post(NEW, {**FORM, "file": SimpleUploadedFile("a.csv", b"1" * 1_001)}))
    assert "more than 1,000 bytes" in shown and not Batch.objects.exists()
    assert [path for path in storage.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("path", [NEW, "/admin/login/", LIST])
@pytest.mark.parametrize("who", ["nobody", "somebody"])
def test_a_form_is_not_taken_in_where_or_from_whom_no_file_is_expected(
    browser: Client, settings: Any, path: str, who: str
) -> None:
    settings.MAX_REQUEST_BYTES, settings.MAX_UPLOAD_BYTES = 1_000, 500_000
    sender = browser if who == "somebody" else Client(enforce_csrf_checks=True)
    # A browser has the cookie of the login page; the form's token is looked for in the body.
    sender.get("/admin/login/")
    answer = sender.post(path, {**FORM, "file": SimpleUploadedFile("a.csv", b"1" * 100_000)})
    if who == "nobody" or path != NEW:
        assert (answer.status_code, answer.json()["type"]) == (413, "/problems/too-large")
    else:
        assert answer.status_code == 302 and Batch.objects.count() == 1
        assert sender.post(path, {"file": SimpleUploadedFile("a.csv", b"1" * 600_000)}).status_code == 413


# Steps


@pytest.mark.parametrize("state", JobState)
def test_a_steps_job_shows_its_work_and_leads_to_its_batch(team: Team, browser: Client, state: JobState) -> None:
    batch = make_batch(team, State.RUNNING)
    final = {"state": state} if state in (JobState.SUCCEEDED, JobState.FAILED, JobState.DEAD_LETTERED) else {}
    result = {"result": b'{"rows": 100, "failed": 3}'} if state is JobState.SUCCEEDED else {}
    job = step(batch, **final, **result)
    shown = text(browser.get(f"/admin/jobs/job/{job.id}/change/"))
    assert "4711" in shown and page(batch) in shown and "Run again" not in shown and "Cancel job" not in shown
    assert (state is not JobState.SUCCEEDED) or "&quot;failed&quot;: 3" in shown
    for action in ("cancel", "rerun"):
        before = rows.whole(job.id)
        answer = browser.post(f"/admin/jobs/job/{job.id}/{action}/")
        assert answer["Location"] == page(batch) and rows.whole(job.id) == before
    if state is JobState.DEAD_LETTERED:
        operator = session(team, role=Role.OPERATOR)
        assert "4711" not in text(operator.get(f"/admin/console/deadletter/{job.id}/change/"))
    purged = step(batch, state=JobState.SUCCEEDED, input=b"", result=None, purged_at=timezone.now(), id=uuid4())
    assert "removed when it grew old" in text(browser.get(f"/admin/jobs/job/{purged.id}/change/"))


def test_lists_of_jobs_leave_steps_out_but_find_them_by_their_ids(team: Team, browser: Client) -> None:
    job = step(make_batch(team, State.RUNNING))
    assert str(job.id) not in text(browser.get("/admin/jobs/job/"))
    assert str(job.id) in text(browser.get(f"/admin/jobs/job/?q={job.id}"))
    assert str(job.id)[:8] not in text(browser.get("/admin/"))
