"""GET /api/jobs/{id}/receipt/: what made a result, as long as there is a record of the job."""

from datetime import datetime, timedelta
from hashlib import sha256
from importlib.metadata import version
from uuid import UUID

import numpy as np
import pytest
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs.models import Job
from inference_portal.jobs.retention import purge
from inference_portal.jobs.states import State
from inference_portal.store import model_store
from tests.integration import rows
from tests.integration.http import ASYNC, BODY, INFER, ROW, client, post, problem
from tests.integration.rows import make_final, make_running, make_sent
from tests.integration.work import work

pytestmark = pytest.mark.django_db


def test_it_says_what_made_the_result(submitter: Client) -> None:
    job_id = post(submitter, INFER, BODY, **ASYNC).json()["Id"]
    path = f"/api/jobs/{job_id}/receipt/"
    problem(submitter.get(path), 409, "conflict")
    assert work() == 1
    receipt = submitter.get(path).json()
    job = Job.objects.get(id=UUID(job_id))
    times = [
        datetime.fromisoformat(receipt.pop(f"{name}_at")) for name in ("accepted", "queued", "started", "finished")
    ]
    assert times == [job.accepted_at, job.queued_at, job.started_at, job.finished_at]
    matrix = np.array([ROW], "<f4")
    libraries = receipt.pop("libraries")
    assert libraries.keys() == {"xgboost", "numpy"} and libraries["numpy"] == version("numpy")
    assert libraries["xgboost"].count(".") == 2
    assert receipt == {
        "id": job_id,
        "model": "wine",
        "version": "1",
        "model_sha256": model_store().get("wine", "1").manifest.sha256,
        # Whoever has the rows can check that these were the ones.
        "input_sha256": sha256(matrix.tobytes()).hexdigest(),
        "rows": 1,
        "device": "cpu",
        "worker": "cpu@host/7",
        "host": job.host,
        "attempt": 1,
    }


def test_the_same_rows_have_the_same_digest_in_every_format(submitter: Client) -> None:
    tensor = {"name": "t", "shape": [1, 13], "datatype": "FP64", "data": ROW}
    names = [column.name for column in model_store().get("wine").manifest.columns]
    table = ",".join(reversed(names)) + "\n" + ",".join(map(str, reversed(ROW)))
    sent = [
        post(submitter, INFER, BODY, **ASYNC),
        post(submitter, INFER, {"inputs": [tensor]}, **ASYNC),
        post(submitter, INFER, table, content_type="text/csv", **ASYNC),
        post(submitter, "/api/jobs/", {"model": "wine", "rows": [dict(zip(names, ROW, strict=True))]}),
    ]
    assert work() == 4
    digests = {submitter.get(f"/api/jobs/{s['X-Inference-Id']}/receipt/").json()["input_sha256"] for s in sent}
    assert digests == {sha256(np.array([ROW], "<f4").tobytes()).hexdigest()}


def test_it_outlives_the_result_until_the_record_goes(submitter: Client) -> None:
    job_id = post(submitter, INFER, BODY, **ASYNC).json()["Id"]
    assert work() == 1
    path = f"/api/jobs/{job_id}/receipt/"
    Job.objects.update(finished_at=timezone.now() - timedelta(days=30))
    before = submitter.get(path).json()
    assert purge() == 1
    problem(submitter.get(f"/result/wine/{job_id}"), 410, "result-purged")
    assert submitter.get(path).json() == before
    Job.objects.update(finished_at=timezone.now() - timedelta(days=300))
    assert purge() == 1
    problem(submitter.get(path), 404, "not-found")


@pytest.mark.parametrize("state", sorted(frozenset(State) - {State.SUCCEEDED}))
def test_without_a_result_there_is_nothing_to_say(team: Team, submitter: Client, state: State) -> None:
    if state is State.RUNNING:
        job = make_running(team)
    elif state in (State.QUEUED, State.RETRYING):
        job = make_sent(team, state=state)
    else:
        job = make_final(team, state)
    detail = problem(submitter.get(f"/api/jobs/{job.id}/receipt/"), 409, "conflict")["detail"]
    assert str(state) in detail


def test_a_viewer_may_read_it_and_another_team_not(team: Team) -> None:
    job = make_final(team, State.SUCCEEDED)
    path = f"/api/jobs/{job.id}/receipt/"
    assert client(team, Role.VIEWER).get(path).status_code == 200
    problem(client(rows.make_team("other")).get(path), 404, "not-found")


def test_of_an_older_worker_that_named_no_libraries_the_rest_is_told(team: Team, submitter: Client) -> None:
    for text, expected in (("", {}), ("xgboost 3.2.0, numpy 2.4.6", {"xgboost": "3.2.0", "numpy": "2.4.6"})):
        job = make_final(team, State.SUCCEEDED, libraries=text)
        assert submitter.get(f"/api/jobs/{job.id}/receipt/").json()["libraries"] == expected
