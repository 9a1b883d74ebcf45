"""Status and result under /status and /result and under /api/jobs/{id}/: the same job, by the same words."""

import time
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from inference_portal.accounts.models import Team
from inference_portal.api import results
from inference_portal.jobs.record import record_result
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import FINAL, State
from inference_portal.jobs.waiting import WaitHub
from tests.integration import rows
from tests.integration.http import ASYNC, BODY, INFER, JOB, hang_up, post, problem, put, send
from tests.integration.rows import in_threads, make_final, make_job, make_running, make_sent
from tests.integration.work import at_work

pytestmark = pytest.mark.django_db(transaction=True)


def alike(sender: Client, old: str, new: str, **headers: str) -> Any:
    """Ask both paths. Returns the answer that they have in common."""
    first, second = (sender.get(path, headers=headers) for path in (old, new))
    assert (first.status_code, first["Content-Type"]) == (second.status_code, second["Content-Type"])
    if first.status_code < 300:
        assert first.content == second.content
        assert dict(first.items()) == dict(second.items())
    else:
        assert {**first.json(), "instance": new} == second.json()
    return second


@pytest.mark.parametrize("state", list(State))
def test_both_paths_tell_the_same(team: Team, submitter: Client, state: State) -> None:
    if state in FINAL:
        job = make_final(team, state)
    else:
        job = make_running(team) if state is State.RUNNING else make_job(team, state=state)
    shown = alike(submitter, job.status_path, f"/api/jobs/{job.id}/status/")
    assert (shown.status_code, shown.json()["State"], shown["X-Inference-Id"]) == (200, state, str(job.id))
    result = alike(submitter, job.result_path, f"/api/jobs/{job.id}/result/")
    assert result["X-Inference-Id"] == str(job.id)
    assert result.status_code == {State.SUCCEEDED: 200, State.FAILED: 422, State.DEAD_LETTERED: 502, State.CANCELLED: 409, State.EXPIRED: 410}.get(state, 202)  # fmt: skip  # noqa: E501


def test_an_id_may_be_in_capitals_on_every_path(team: Team, submitter: Client) -> None:
    job = make_final(team, State.SUCCEEDED)
    capitals = str(job.id).upper()
    for path in ("", "status/", "result/", "receipt/", "events/"):
        answer = submitter.get(f"/api/jobs/{capitals}/{path}")
        assert answer.status_code == 200, path
        body = b"".join(answer).decode()
        assert str(job.id) in body or path == "result/", "an id is told in small letters"
    for path in (f"/status/wine/{capitals}", f"/result/wine/{capitals}"):
        assert submitter.get(path)["X-Inference-Id"] == str(job.id)
    problem(post(submitter, f"/api/jobs/{capitals}/rerun/"), 409, "conflict")
    problem(post(submitter, f"/api/jobs/{capitals}/cancel/"), 409, "conflict")
    new = str(uuid4()).upper()
    assert put(submitter, f"/api/jobs/{new}/", JOB).json()["Id"] == new.lower()


@pytest.mark.parametrize(
    "text", ["x", "%00", "0b0e7a526c1f4b6e9d1c6f5f7d3a9c11", "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c1g"]
)
def test_what_is_no_id_is_no_path(submitter: Client, text: str) -> None:
    for action in ("", "status/", "result/", "receipt/", "events/"):
        problem(submitter.get(f"/api/jobs/{text}/{action}"), 404, "not-found")


PATHS = {
    "": ("GET", "PUT"),
    "status/": ("GET",),
    "result/": ("GET",),
    "receipt/": ("GET",),
    "events/": ("GET",),
    "cancel/": ("POST",),
    "rerun/": ("POST",),
}


@pytest.mark.parametrize("path", PATHS)
def test_a_header_may_repeat_the_path_and_not_contradict_it(team: Team, submitter: Client, path: str) -> None:
    ends = {"receipt/": State.SUCCEEDED, "rerun/": State.FAILED}
    job = make_final(team, ends[path]) if path in ends else make_job(team)
    before, url = rows.whole(job.id), f"/api/jobs/{job.id}/{path}"
    for method in PATHS[path]:
        for text in (str(uuid4()), "nonsense", ""):
            answer = send(submitter, method, url, JOB, **{"X-Inference-Id": text})
            assert "contradicts the path" in problem(answer, 400, "malformed")["detail"]
        assert rows.whole(job.id) == before
        body = JOB if method == "PUT" else ""
        same = send(submitter, method, url, body, **{"X-Inference-Id": str(job.id).upper()})
        problem(send(submitter, "DELETE", url, **{"X-Inference-Id": str(uuid4())}), 405, "method-not-allowed")
        # The PUT is another request under a used id.
        assert same.status_code in ((422,) if method == "PUT" else (200, 202)), same.content
        if same.streaming:
            hang_up(same)


# Long poll


@pytest.mark.parametrize("kind", ["status", "result"])
@pytest.mark.parametrize("path", ["/{kind}/wine/{job}", "/api/jobs/{job}/{kind}/", "/{kind}/wine"])
def test_a_long_poll_is_answered_by_the_end(team: Team, submitter: Client, path: str, kind: str) -> None:
    job = make_sent(team)
    url = path.format(kind=kind, job=job.id) + "?wait=20"
    headers = {} if "{job}" in path else {"X-Inference-Id": str(job.id)}

    def ends() -> None:
        time.sleep(0.3)
        assert record_result(rows.result(rows.success(job))) == 1

    begun = time.monotonic()
    answer, _ = in_threads(lambda: submitter.get(url, headers=headers), ends)
    assert answer.status_code == 200
    assert 0.2 < time.monotonic() - begun < 10
    assert answer.json().get("State", "succeeded") == "succeeded"


@pytest.mark.parametrize("path", ["/status/wine/{}", "/api/jobs/{}/status/", "/result/wine/{}", "/api/jobs/{}/result/"])
def test_a_long_poll_that_is_over_tells_what_is_now(team: Team, submitter: Client, path: str) -> None:
    job = make_sent(team)
    begun = time.monotonic()
    answer = submitter.get(path.format(job.id) + "?wait=1")
    assert 0.9 < time.monotonic() - begun < 5
    assert answer.status_code == (200 if "status" in path else 202)


def test_a_cancelled_job_ends_a_long_poll_too(team: Team, submitter: Client) -> None:
    job = make_sent(team)

    def cancels() -> None:
        time.sleep(0.2)
        assert job_cancel(job_id=job.id)

    answer, _ = in_threads(lambda: submitter.get(f"/api/jobs/{job.id}/result/?wait=20"), cancels)
    problem(answer, 409, "cancelled")


def test_without_a_place_a_long_poll_is_answered_at_once(
    team: Team, submitter: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "hub", WaitHub(0))
    job = make_sent(team)
    begun = time.monotonic()
    assert submitter.get(f"/api/jobs/{job.id}/status/?wait=20").status_code == 200
    assert submitter.get(f"/api/jobs/{job.id}/result/?wait=20").status_code == 202
    assert time.monotonic() - begun < 5


def test_a_client_that_follows_only_what_it_is_told_gets_its_result(submitter: Client) -> None:
    accepted = post(submitter, INFER, BODY, **ASYNC)
    assert accepted["Location"] == accepted.json()["ResultPath"]
    assert submitter.get(accepted.json()["StatusPath"]).json()["Status"] == "Queue"
    asked = submitter.get(accepted["Location"])
    assert (asked.status_code, asked["Location"]) == (202, accepted["Location"])
    with at_work():
        result = submitter.get(accepted["Location"] + "?wait=20")
    assert (result.status_code, len(result.json()["predictions"])) == (200, 1)
    assert submitter.get(accepted.json()["StatusPath"]).json()["Status"] == "Completed"
