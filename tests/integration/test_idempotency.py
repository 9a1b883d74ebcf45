"""A request that comes again, known by X-Inference-Id or Idempotency-Key, joins the job that the first one became."""

import gzip
import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.db.models import Q
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.jobs import repeats, services
from inference_portal.jobs.models import Job
from inference_portal.jobs.quota import Quota
from inference_portal.jobs.retention import purge
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import State
from inference_portal.store import model_store
from tests.integration import rows
from tests.integration.dead import store
from tests.integration.http import ASYNC, BODY, INFER, JOB, JOBS, ROW, client, post, problem, put
from tests.integration.work import work

pytestmark = pytest.mark.django_db
OTHER = {"instances": [[*ROW[:-1], 1.0]]}
OTHER_JOB = {"model": "wine", "rows": OTHER["instances"]}
# What a client may call a request of …/infer.
NAMES: dict[str, dict[str, str]] = {
    "an id": {"X-Inference-Id": "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11"},
    "a key": {"Idempotency-Key": "order-4711"},
    "both": {"X-Inference-Id": "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c12", "Idempotency-Key": "order-4712"},
}


@pytest.fixture(autouse=True)
def quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has counted nothing yet: each test has its own database."""
    monkeypatch.setattr(services, "quota", Quota())


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> dict[str, str]:
    """What the client calls its request."""
    return NAMES[request.param]


def only_job() -> Job:
    return Job.objects.get()


def first(sender: Client, name: dict[str, str], body: Any = BODY, **headers: Any) -> Job:
    """Have a request accepted under a name."""
    answer = post(sender, INFER, body, **name, **ASYNC, **headers)
    assert answer.status_code == 202, answer.content
    return Job.objects.get(id=answer.json()["Id"])


def mismatch(answer: Any) -> dict[str, Any]:
    return problem(answer, 422, "idempotency-mismatch")


# The same request again


def test_a_name_is_kept_with_its_job(submitter: Client, name: dict[str, str]) -> None:
    job = first(submitter, name)
    assert str(job.id) == name.get("X-Inference-Id", str(job.id))
    assert job.idempotency_key == name.get("Idempotency-Key", "")
    assert submitter.get(f"/api/jobs/{job.id}/").json()["idempotency_key"] == job.idempotency_key


def test_a_repeat_is_the_same_job_and_is_answered_by_its_own_prefer(submitter: Client, name: dict[str, str]) -> None:
    job = first(submitter, name)

    def again(prefer: str) -> Any:
        answer = post(submitter, INFER, BODY, **name, Prefer=prefer)
        assert answer["X-Inference-Id"] == str(job.id)
        assert only_job().attempt == 1
        return answer

    answer = again("respond-async")
    assert (answer.status_code, answer.json()["Id"]) == (202, str(job.id))
    assert answer["Location"] == f"/result/wine/{job.id}" and answer["Preference-Applied"] == "respond-async"
    assert again("respond-async, wait=0").status_code == 202
    forgets = again("respond-async-proxy")
    assert (forgets.status_code, forgets.content, "Location" in forgets) == (202, b"", False)
    late = again("wait=0")
    problem(late, 504, "wait-expired")
    assert late["Location"] == f"/result/wine/{job.id}"
    problem(post(submitter, INFER, BODY, **name, Prefer="respond-async-container"), 422, "not-a-container")
    assert work() == 1
    for prefer in ("", "wait=5", "respond-async, wait=5"):
        done = again(prefer)
        assert done.status_code == 200
        assert done.content == submitter.get(f"/result/wine/{job.id}").content
    assert again("respond-async").status_code == 202


@pytest.mark.parametrize(
    ("state", "status", "slug"),
    [(State.FAILED, 422, "bad-data"), (State.DEAD_LETTERED, 502, "dead-lettered"), (State.CANCELLED, 409, "cancelled")],
)
def test_a_repeat_of_a_job_that_ended_badly_gets_its_problem(
    submitter: Client, name: dict[str, str], state: State, status: int, slug: str
) -> None:
    job = first(submitter, name)
    end = {"state": state, "finished_at": timezone.now(), "error_message": "why"}
    Job.objects.filter(id=job.id).update(**end, error_code="bad-data" if state is State.FAILED else "")
    problem(post(submitter, INFER, BODY, **name), status, slug)
    assert post(submitter, INFER, BODY, **name, **ASYNC).json()["Id"] == str(job.id)
    assert only_job().state == state


@pytest.mark.parametrize("text", [str.upper, lambda text: f"{{{text}}}", lambda text: text.replace("-", "")])
def test_an_id_in_another_spelling_is_the_same_id(submitter: Client, text: Any) -> None:
    job = first(submitter, NAMES["an id"])
    again = post(submitter, INFER, BODY, **ASYNC, **{"X-Inference-Id": text(str(job.id))})
    assert again.json()["Id"] == str(job.id) == str(only_job().id)


def test_a_compressed_repeat_is_the_same_request(submitter: Client, name: dict[str, str]) -> None:
    job = first(submitter, name)
    again = post(submitter, INFER, gzip.compress(json.dumps(BODY).encode()), **name, **ASYNC, **{"Content-Encoding": "gzip"})  # fmt: skip  # noqa: E501
    assert again.json()["Id"] == str(job.id) == str(only_job().id)


LENGTH = "Inference-Header-Content-Length"


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "application/json; charset=utf-8"}, {"content_type": "Application/JSON"}, {"content_type": ""},
        {"content_type": "application/octet-stream"},
    ],
)  # fmt: skip
def test_a_type_in_another_spelling_is_the_same_request(
    submitter: Client, name: dict[str, str], headers: dict[str, str]
) -> None:
    assert first(submitter, name).id == first(submitter, name, **headers).id == only_job().id


def test_what_a_body_is_read_as_counts_and_not_how_that_is_spelled(submitter: Client, name: dict[str, str]) -> None:
    head = ",".join(column.name for column in model_store().get("wine").manifest.columns)
    table = f"{head}\n{','.join(map(str, ROW))}\n"
    job = first(submitter, name, table, content_type="text/csv")
    for same in ("text/csv; charset=UTF-8", "TEXT/CSV ; header=present", "text/csv;x=y"):
        assert first(submitter, name, table, content_type=same).id == job.id
    for other in ("application/json", "application/x-npy"):
        mismatch(post(submitter, INFER, table, content_type=other, **name))
    for unread in ("text/csv; charset=latin-1", "text/csv; header=absent", "text/html"):
        problem(post(submitter, INFER, table, content_type=unread, **name), 415, "unsupported-media-type")
    assert only_job().id == job.id


def test_a_length_in_another_spelling_is_the_same_request(submitter: Client, name: dict[str, str]) -> None:
    body = json.dumps({"inputs": [{"name": "t", "shape": [1, 13], "datatype": "FP32", "data": ROW}]})
    job = first(submitter, name, body, **{LENGTH: str(len(body))})
    assert first(submitter, name, body, **{LENGTH: f"00{len(body)}"}).id == job.id
    mismatch(post(submitter, INFER, body, **name))
    problem(post(submitter, INFER, body, **name, **{LENGTH: "ten"}), 400, "malformed")


def test_of_two_names_each_is_enough_for_a_repeat(submitter: Client) -> None:
    job = first(submitter, NAMES["both"])
    for header, value in NAMES["both"].items():
        assert first(submitter, {header: value}).id == job.id
    assert Job.objects.count() == 1


def test_two_names_must_be_of_one_request(submitter: Client) -> None:
    job, other = first(submitter, NAMES["an id"]), first(submitter, NAMES["a key"])
    both = {"X-Inference-Id": str(job.id), "Idempotency-Key": other.idempotency_key}
    mismatch(post(submitter, INFER, BODY, **both))
    mismatch(post(submitter, INFER, BODY, **{**both, "Idempotency-Key": "never seen"}))
    mismatch(post(submitter, INFER, BODY, **{**both, "X-Inference-Id": str(uuid4())}))
    assert Job.objects.count() == 2


# Another request under a used name


VARIANTS: dict[str, dict[str, Any]] = {
    "another body": {"body": OTHER},
    "another spelling of the body": {"body": json.dumps(BODY, indent=1)},
    "another model": {"path": "/v2/models/breast_cancer/infer"},
    "a version": {"path": "/v2/models/wine/versions/1/infer"},
    "a priority": {"X-Inference-Priority": "high"},
    "a time to live": {"X-Inference-Ttl": "60"},
    "an ordering key": {"X-Inference-Ordering-Key": "k"},
    "a length": {"Inference-Header-Content-Length": "10"},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_anything_else_under_a_used_name_is_refused(submitter: Client, name: dict[str, str], variant: str) -> None:
    job = first(submitter, name)
    before = rows.whole(job.id)
    request = {"path": INFER, "body": BODY, **VARIANTS[variant]}
    for prefer in ("", "respond-async"):
        answer = post(submitter, request["path"], request["body"], Prefer=prefer, **name, **{k: v for k, v in request.items() if k not in ("path", "body")})  # fmt: skip  # noqa: E501
        assert mismatch(answer)["retryable"] is False
        assert "Preference-Applied" not in answer
    assert rows.whole(only_job().id) == before


def test_default_headers_and_absent_ones_are_the_same(submitter: Client, name: dict[str, str]) -> None:
    assert first(submitter, name).id == first(submitter, name, **{"X-Inference-Priority": "normal"}).id


def test_a_foreign_id_is_refused_in_the_very_words_of_an_own_one(team: Team, submitter: Client) -> None:
    name = NAMES["an id"]
    job = first(submitter, name)
    before = rows.whole(job.id)
    strangers = [client(rows.make_team("other")), client(rows.make_team("third"), Role.OPERATOR)]
    own = post(submitter, INFER, OTHER, **name, **ASYNC)
    texts = [mismatch(own)]
    # Word for word the same request, too: what it was is nobody's business.
    for body in (OTHER, BODY):
        for stranger in strangers:
            answer = post(stranger, INFER, body, **name, **ASYNC)
            texts.append(mismatch(answer))
            assert {h: v for h, v in answer.items() if h != "X-Inference-Id"} == {h: v for h, v in own.items() if h != "X-Inference-Id"}  # fmt: skip  # noqa: E501
            assert answer["X-Inference-Id"] == own["X-Inference-Id"]
    assert all(text == texts[0] for text in texts)
    path = f"/api/jobs/{job.id}/"
    assert mismatch(put(submitter, path, OTHER_JOB)) == mismatch(put(strangers[0], path, OTHER_JOB))
    assert rows.whole(only_job().id) == before


def test_a_key_is_the_teams_own(submitter: Client) -> None:
    job = first(submitter, NAMES["a key"])
    theirs = first(client(rows.make_team("other")), NAMES["a key"])
    assert theirs.id != job.id and Job.objects.count() == 2
    assert first(submitter, NAMES["a key"]).id == job.id


# What uses up a name and what doesn't


REFUSED: dict[str, tuple[dict[str, Any], int]] = {
    "not JSON": ({"body": "{"}, 400),
    "a wrong value": ({"body": {"instances": [["x"]]}}, 422),
    "too many rows": ({"body": {"instances": [ROW] * 3}}, 413),
    "an unknown model": ({"path": "/v2/models/none/infer"}, 404),
    "an unread type": ({"content_type": "text/html"}, 415),
    "an unread coding": ({"Content-Encoding": "br"}, 415),
    "a result that nobody takes": ({"Accept": "text/html"}, 406),
    "a bad priority": ({"X-Inference-Priority": "now"}, 400),
    "a container": ({"Prefer": "respond-async-container"}, 422),
    "a private webhook": ({"X-Inference-Webhook": "https://127.0.0.1"}, 400),
    "a sink": ({"X-Inference-Sink": "lake"}, 422),
    "a full quota": ({"quota": 0}, 429),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_a_refused_request_uses_up_no_name(team: Team, submitter: Client, name: dict[str, str], reason: str) -> None:
    request, status = REFUSED[reason]
    headers = {k: v for k, v in request.items() if k not in ("path", "body", "quota")}
    Team.objects.filter(id=team.id).update(quota=request.get("quota"))
    with override_settings(MAX_REQUEST_ROWS=2):
        answer = post(submitter, request.get("path", INFER), request.get("body", BODY), **name, **headers)
    assert answer.status_code == status, answer.content
    assert not Job.objects.exists()
    Team.objects.filter(id=team.id).update(quota=None)
    assert post(submitter, INFER, OTHER, **name, **ASYNC).status_code == 202


def test_a_full_quota_refuses_no_repeat(team: Team, submitter: Client, name: dict[str, str]) -> None:
    Team.objects.filter(id=team.id).update(quota=1)
    job = first(submitter, name)
    problem(post(submitter, INFER, BODY, **ASYNC), 429, "quota-exceeded")
    for _ in range(3):
        assert first(submitter, name).id == job.id
    mismatch(post(submitter, INFER, OTHER, **name))


def test_a_name_lives_as_long_as_its_job(submitter: Client, name: dict[str, str]) -> None:
    job = first(submitter, name)
    assert work() == 1
    old = timezone.now() - timedelta(days=60)
    Job.objects.filter(id=job.id).update(finished_at=old)
    assert purge() == 1
    # Its result is gone, it is not.
    problem(post(submitter, INFER, BODY, **name), 410, "result-purged")
    assert first(submitter, name).id == job.id
    mismatch(post(submitter, INFER, OTHER, **name))
    Job.objects.filter(id=job.id).update(finished_at=timezone.now() - timedelta(days=100), purged_at=old)
    assert purge() == 1 and not Job.objects.exists()
    again = first(submitter, name, OTHER)
    assert (again.state, again.attempt, again.purged_at) == ("queued", 1, None)


def test_a_cancelled_job_keeps_its_name(submitter: Client, name: dict[str, str]) -> None:
    job = first(submitter, name)
    assert job_cancel(job_id=job.id)
    assert first(submitter, name).state == State.CANCELLED
    mismatch(post(submitter, INFER, OTHER, **name))


# Names that are none


@pytest.mark.parametrize("text", ["", "4711", "x" * 5000, "\xff", "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c1g"])
def test_an_id_that_is_no_uuid_is_named(submitter: Client, text: str) -> None:
    for path, body in ((INFER, BODY), (JOBS, JOB)):
        detail = problem(post(submitter, path, body, **{"X-Inference-Id": text}), 400, "malformed")["detail"]
        assert "X-Inference-Id" in detail
    assert not Job.objects.exists()


@pytest.mark.parametrize("text", ["", "x" * 256, "a\tb", "\xfcni", "caf\xc3\xa9"])
def test_a_key_that_is_none_is_named(submitter: Client, text: str) -> None:
    for path, body in ((INFER, BODY), (JOBS, JOB)):
        detail = problem(post(submitter, path, body, **{"Idempotency-Key": text}), 400, "malformed")["detail"]
        assert "Idempotency-Key" in detail
    assert not Job.objects.exists()
    assert first(submitter, {"Idempotency-Key": "x" * 255}).idempotency_key == "x" * 255


@pytest.mark.parametrize("value", ["", "x" * 256, 5, True, ["k"], "a\nb", "\ud800"])
def test_a_key_in_a_body_that_is_none_is_named(submitter: Client, value: Any) -> None:
    body = problem(post(submitter, JOBS, {**JOB, "idempotency_key": value}), 422, "invalid-input")
    assert body["errors"][0]["pointer"] == "/idempotency_key"
    assert not Job.objects.exists()


# /api/jobs/


def test_a_job_may_be_put_under_an_id_and_put_again(submitter: Client) -> None:
    job_id = uuid4()
    for path in (f"/api/jobs/{job_id}/", f"/api/jobs/{str(job_id).upper()}/"):
        for headers in ({}, {"X-Inference-Id": str(job_id)}, {"X-Inference-Id": job_id.hex}):
            answer = put(submitter, path, JOB, **headers)
            assert (answer.status_code, answer.json()["Id"]) == (202, str(job_id)), answer.content
            assert answer["Location"] == f"/result/wine/{job_id}" and answer["X-Inference-Id"] == str(job_id)
            assert int(answer["Retry-After"]) >= 1
    assert only_job().id == job_id
    mismatch(put(submitter, path, OTHER_JOB))
    # The same id by its header is the same name.
    assert post(submitter, JOBS, JOB, **{"X-Inference-Id": str(job_id)}).json()["Id"] == str(job_id)
    mismatch(post(submitter, INFER, BODY, **{"X-Inference-Id": str(job_id)}))
    assert only_job().id == job_id


def test_a_header_that_contradicts_the_path_of_a_put_is_refused(submitter: Client) -> None:
    answer = put(submitter, f"/api/jobs/{uuid4()}/", JOB, **{"X-Inference-Id": str(uuid4())})
    assert "contradicts the path" in problem(answer, 400, "malformed")["detail"]
    assert not Job.objects.exists()


def test_the_key_of_a_job_may_stand_in_its_body_or_its_header(submitter: Client) -> None:
    in_body = post(submitter, JOBS, {**JOB, "idempotency_key": "ünï"})
    assert in_body.status_code == 202 and only_job().idempotency_key == "ünï"
    assert post(submitter, JOBS, {**JOB, "idempotency_key": "ünï"}).json() == in_body.json()
    mismatch(post(submitter, JOBS, {**OTHER_JOB, "idempotency_key": "ünï"}))
    plain = post(submitter, JOBS, {**JOB, "idempotency_key": "k"})
    for body, headers in ((JOB, {"Idempotency-Key": "k"}), ({**JOB, "idempotency_key": "k"}, {"Idempotency-Key": "k"})):
        assert post(submitter, JOBS, body, **headers).json() == plain.json()
    contradicts = post(submitter, JOBS, {**JOB, "idempotency_key": "k"}, **{"Idempotency-Key": "l"})
    assert problem(contradicts, 422, "invalid-input")["errors"][0]["pointer"] == "/idempotency_key"
    assert Job.objects.count() == 2
    both = put(submitter, f"/api/jobs/{uuid4()}/", JOB, **{"Idempotency-Key": "k"})
    mismatch(both)


FULL_JOB = {**JOB, "version": "1", "priority": "high", "ttl_seconds": 60, "ordering_key": "o", "labels": ["a", "b"]}


def test_the_order_of_the_fields_and_null_mean_nothing(submitter: Client) -> None:
    key = {"Idempotency-Key": "k"}
    accepted = post(submitter, JOBS, FULL_JOB, **key).json()
    for same in (
        dict(reversed(FULL_JOB.items())),
        json.dumps(FULL_JOB, indent=2),
        {**FULL_JOB, "idempotency_key": None},
        {**FULL_JOB, "idempotency_key": "k"},
    ):
        assert post(submitter, JOBS, same, **key).json() == accepted
    record = dict.fromkeys((c.name for c in model_store().get("wine").manifest.columns), 1.0)
    by_name = {"model": "wine", "rows": [record]}
    accepted = post(submitter, JOBS, by_name, **{"Idempotency-Key": "l"}).json()
    turned = {"rows": [dict(reversed(record.items()))], "model": "wine", "version": None, "labels": None}
    assert post(submitter, JOBS, turned, **{"Idempotency-Key": "l"}).json() == accepted
    assert Job.objects.count() == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"version": None}, {"priority": "low"}, {"ttl_seconds": 61}, {"ordering_key": "p"}, {"labels": ["b", "a"]},
        {"labels": None}, {"rows": OTHER["instances"]}, {"model": "breast_cancer"}, {"rows": None, "inputs": []},
    ],
)  # fmt: skip
def test_every_field_of_a_job_counts(submitter: Client, changes: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "k"}
    assert post(submitter, JOBS, FULL_JOB, **key).status_code == 202
    mismatch(post(submitter, JOBS, {**FULL_JOB, **changes}, **key))
    assert Job.objects.count() == 1


# A model that is gone


@pytest.fixture
def model_m(tmp_path: Path, settings: Any) -> Iterator[Path]:
    with store(settings, tmp_path / "store"):
        yield tmp_path / "store" / "m"


def test_a_repeat_needs_no_model_any_more(submitter: Client, name: dict[str, str], model_m: Path) -> None:
    body = {"instances": [dict.fromkeys("abc", 1.0)]}
    path = "/v2/models/m/versions/1/infer"
    accepted = post(submitter, path, body, **name, **ASYNC)
    job_id = UUID(accepted.json()["Id"])
    shutil.rmtree(model_m / "1")
    model_store.cache_clear()
    problem(post(submitter, path, body, **ASYNC), 404, "not-found")
    assert post(submitter, path, body, **name, **ASYNC).json() == accepted.json()
    ended = {"state": State.SUCCEEDED, "finished_at": timezone.now(), "result": rows.OUTPUTS.encode()}
    Job.objects.filter(id=job_id).update(**ended)
    assert post(submitter, path, body, **name).json() == {"predictions": [[0.5, 0.25, 0.25]]}
    assert only_job().id == job_id


def test_a_mismatch_takes_one_look_whoever_owns_the_job(submitter: Client) -> None:
    """One look by id and key, whoever owns it: no second query tells a foreign job by its time."""
    first(submitter, NAMES["an id"])
    counts = []
    for sender in (submitter, client(rows.make_team("other"))):
        sender.get("/api/jobs/")
        with CaptureQueriesContext(connection) as queries:
            mismatch(post(sender, INFER, OTHER, **NAMES["an id"]))
        counts.append(len(queries))
    assert counts == [1, 1]


def test_a_key_is_looked_up_in_the_index_of_its_constraint(team: Team) -> None:
    if connection.vendor == "postgresql":
        pytest.skip("about SQLite, which would walk through the team's jobs")
    for named in (repeats.of_key(team.id, "k"), Q(id=uuid4()) | repeats.of_key(team.id, "k")):
        plan = Job.objects.filter(named).explain()
        assert "job_one_of_an_idempotency_key (team_id=? AND idempotency_key=?)" in plan, plan


@pytest.mark.parametrize("prefer", ["", "wait=0", "wait=5"])
def test_a_repeat_of_a_job_that_has_ended_is_its_result_at_once(submitter: Client, prefer: str) -> None:
    name = {"Idempotency-Key": "order-1"}
    job = first(submitter, name)
    work()
    with override_settings(SYNC_WAIT_SECONDS=0):
        answer = post(submitter, INFER, BODY, **name, Prefer=prefer)
    assert answer.status_code == 200, answer.content
    assert answer.json() == submitter.get(job.result_path).json()
    later = post(submitter, INFER, BODY, **name, Prefer="respond-async")
    assert (later.status_code, later.json()["Id"]) == (202, str(job.id))


def test_a_repeat_of_a_job_that_goes_on_waits_no_longer_than_it_wants(submitter: Client) -> None:
    name = {"Idempotency-Key": "order-1"}
    job = first(submitter, name)
    answer = post(submitter, INFER, BODY, **name, Prefer="wait=0")
    problem(answer, 504, "wait-expired")
    assert answer["Location"] == job.result_path
