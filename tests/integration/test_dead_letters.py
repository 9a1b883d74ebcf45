"""Dead letters over HTTP and below: what a replay and a discard change, who may, and what is refused and why."""

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from django.test import Client
from django.urls import URLPattern
from django.utils import timezone
from openapi_spec_validator import validate

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import ApiKey, Role, Team
from inference_portal.jobs import changes, dead_letters, rerun
from inference_portal.jobs.models import AuditEntry, Job
from inference_portal.jobs.rerun import NotWaiting
from inference_portal.jobs.states import State
from inference_portal.store import model_store
from inference_portal.urls import urlpatterns
from tests.integration import rows
from tests.integration.dead import MATRIX, dead, park, store
from tests.integration.http import send
from tests.integration.rows import in_threads, make_final, make_job, whole
from tests.unit.builders import write_release
from workers.contract import ErrorCode

pytestmark = pytest.mark.django_db

URL = "/api/dead-letters/"


@pytest.fixture(autouse=True)
def model_m(tmp_path: Path, settings: Any) -> Iterator[None]:
    with store(settings, tmp_path / "store"):
        yield


def client(team: Team, role: Role = Role.OPERATOR) -> Client:
    _, key = ApiKey.objects.create_key(name=f"{role}", team=team, role=role)
    return Client(headers={"Authorization": f"Bearer {key}"})


@pytest.fixture
def operator(team: Team) -> Client:
    return client(rows.make_team("operators"))


def caller(team: Team) -> Caller:
    return Caller(team.pk, Role.OPERATOR, "anna")


def post(sender: Client, path: str, body: Any = None) -> Any:
    data = body if isinstance(body, str | bytes) else json.dumps(body)
    return sender.post(URL + path, data="" if body is None else data, content_type="application/json")


def problem(answer: Any, status: int, slug: str) -> dict[str, Any]:
    assert answer.status_code == status, answer.content
    assert answer["Content-Type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert (body["type"], body["status"]) == (f"/problems/{slug}", status)
    return body


def refused(before: dict[str, Any], answer: Any, status: int, slug: str) -> dict[str, Any]:
    """The problem of an act that must have changed nothing."""
    assert whole(before["id"]) == before
    assert not AuditEntry.objects.filter(job_id=before["id"]).exists()
    return problem(answer, status, slug)


def digest(matrix: Any) -> str:
    return sha256(np.asarray(matrix, "<f4").tobytes()).hexdigest()


def test_an_id_in_capitals_is_the_same_id(team: Team, operator: Client) -> None:
    job = dead(team)
    name = str(job.id).upper()
    assert operator.get(f"{URL}{name}/").json()["id"] == str(job.id)
    assert post(operator, f"{name}/replay/").status_code == 202


@pytest.mark.parametrize("path", ["", "replay/", "discard/"])
def test_a_header_may_repeat_the_path_and_not_contradict_it(team: Team, operator: Client, path: str) -> None:
    job = dead(team)
    before, url, method = whole(job.id), f"{URL}{job.id}/{path}", ROUTES[f"{{job}}/{path}"]
    body = {"reason": "x"} if path == "discard/" else ""
    for text in (str(uuid4()), "nonsense", ""):
        answer = send(operator, method, url, body, **{"X-Inference-Id": text})
        assert "contradicts the path" in refused(before, answer, 400, "malformed")["detail"]
    foreign = send(client(team, Role.SUBMITTER), method, url, body, **{"X-Inference-Id": str(uuid4())})
    refused(before, foreign, 403, "forbidden")
    same = send(operator, method, url, body, **{"X-Inference-Id": str(job.id).upper()})
    assert same.status_code == (202 if path == "replay/" else 200)


def test_a_category_that_the_manifest_has_lost_is_shown_as_a_number_and_asks_for_another_input(
    team: Team, operator: Client, settings: Any
) -> None:
    def serve(*categories: str) -> None:
        columns = [{"name": "c", "type": "category", "categories": list(categories)}]
        write_release(settings.MODEL_STORE, "m", "1", b"1", columns=columns)
        model_store.cache_clear()

    serve("x", "y", "z")
    job = dead(team, rows=1, input=np.array([[2]], "<f4").tobytes())
    assert operator.get(f"{URL}{job.id}/").json()["input"] == {"rows": [{"c": "z"}]}
    serve("x", "y")
    answer = operator.get(f"{URL}{job.id}/")
    assert (answer.status_code, answer.json()["input"]) == (200, {"rows": [[2.0]]})
    before = whole(job.id)
    refused(before, post(operator, f"{job.id}/replay/"), 422, "invalid-input")
    assert post(operator, f"{job.id}/replay/", {"rows": [{"c": "y"}]}).status_code == 202


# Replay


def test_a_replay_is_the_same_job_with_its_next_attempt_at_the_end_of_the_queue(team: Team, operator: Client) -> None:
    job = dead(team)
    before = whole(job.id)
    waiting = make_job(team)
    answer = post(operator, f"{job.id}/replay/")
    assert answer.status_code == 202
    assert answer.json() == {"Id": str(job.id), "StatusPath": f"/status/m/{job.id}", "ResultPath": f"/result/m/{job.id}"}  # fmt: skip  # noqa: E501
    assert (answer["Location"], answer["X-Inference-Id"]) == (f"/result/m/{job.id}", str(job.id))
    after = whole(job.id)
    assert after.pop("queued_at") > waiting.queued_at
    changed = {name for name in after if after[name] != before[name]}
    expected: dict[str, Any] = {
        "state": "queued",
        "attempt": 4,
        "failures": 0,
        "expires_at": None,
        "not_before": None,
        "finished_at": None,
        "started_at": None,
        "sent_at": None,
        "worker": "",
        "host": "",
        "device": "",
        "error_code": "",
        "error_message": "",
    }
    assert {name: after[name] for name in changed} == expected
    assert job in Job.objects.due()
    assert operator.get(f"/status/m/{job.id}").json()["State"] == "queued"
    entry = AuditEntry.objects.get()
    assert (entry.who, entry.action, entry.job_id, entry.changes) == ("key operator", "replay", job.id, {})


@pytest.mark.django_db(transaction=True)
def test_a_replay_wakes_the_dispatcher(team: Team) -> None:
    job = dead(team)

    def listen() -> Any:
        source = changes.listen(changes.DISPATCH)
        try:
            source.wait(5)
            listening.set()
            return source.wait(20)
        finally:
            source.close()

    listening = threading.Event()

    def act() -> None:
        assert listening.wait(20)
        dead_letters.replay(job_id=job.id, caller=caller(team))

    woken, _ = in_threads(listen, act)
    assert woken is None or woken == [""]


def test_another_version_gets_the_stored_input_by_its_columns_names(team: Team, operator: Client) -> None:
    job = dead(team)
    assert post(operator, f"{job.id}/replay/", {"version": "2"}).status_code == 202
    after = whole(job.id)
    expected = MATRIX[:, [2, 0]]
    assert after["input"] == np.ascontiguousarray(expected).tobytes()
    model = sha256(b"2").hexdigest()
    assert (after["version"], after["sha256"], after["pool"], after["rows"]) == ("2", model, "gpu", 2)
    assert after["reply"] == {"format": "v2", "id": "mine", "outputs": ["label"]}
    assert AuditEntry.objects.get().changes == {
        "version": ["1", "2"],
        "model_sha256": [sha256(b"1").hexdigest(), model],
        "input_sha256": [digest(MATRIX), digest(expected)],
    }


def test_a_column_that_the_stored_input_lacks_is_named_and_can_be_given(team: Team, operator: Client) -> None:
    job = dead(team)
    before = whole(job.id)
    answer = post(operator, f"{job.id}/replay/", {"version": "3"})
    body = refused(before, answer, 422, "invalid-input")
    assert [error["detail"].split("'")[1] for error in body["errors"]] == ["d", "e/f"]
    assert "send the input" in body["detail"]
    given = [{"a": 1, "b": None, "c": 2, "d": 3, "e/f": 4}]
    assert post(operator, f"{job.id}/replay/", {"version": "3", "rows": given}).status_code == 202
    after = whole(job.id)
    expected = np.array([[1, np.nan, 2, 3, 4]], "<f4")
    assert (after["version"], after["rows"], after["input"]) == ("3", 1, expected.tobytes())
    assert AuditEntry.objects.get().changes["rows"] == [2, 1]


def test_a_version_without_the_outputs_that_were_asked_for_is_refused(team: Team, operator: Client) -> None:
    job = dead(team)
    before = whole(job.id)
    body = refused(before, post(operator, f"{job.id}/replay/", {"version": "4"}), 422, "invalid-input")
    assert body["errors"][0]["pointer"] == "/version" and "'label'" in body["detail"] and "value" in body["detail"]
    all_outputs = dead(team, reply={"format": "instances", "id": None, "outputs": None}, ordering_key="")
    assert post(operator, f"{all_outputs.id}/replay/", {"version": "4"}).status_code == 202


@pytest.mark.parametrize("body", [None, {"version": "2"}])
def test_without_the_file_that_it_was_for_an_input_is_needed(team: Team, operator: Client, body: Any) -> None:
    job = dead(team, sha256="0" * 64)
    before = whole(job.id)
    detail = refused(before, post(operator, f"{job.id}/replay/", body), 422, "invalid-input")["detail"]
    assert "nobody knows its input's columns" in detail and "send the input" in detail
    rows = [{"a": 1, "c": 2} | ({} if body else {"b": None})]
    assert post(operator, f"{job.id}/replay/", {**(body or {}), "rows": rows}).status_code == 202
    assert whole(job.id)["sha256"] == sha256(b"2" if body else b"1").hexdigest()


def test_a_version_that_is_gone_is_answered_with_those_that_are_served(team: Team, operator: Client) -> None:
    job = dead(team, version="9")
    before = whole(job.id)
    for body in (None, {"version": "9"}, {"version": ""}, {"version": "../1"}):
        answer = refused(before, post(operator, f"{job.id}/replay/", body), 422, "invalid-input")
        assert answer["errors"][0]["pointer"] == "/version" and "1, 2, 3, 4, 5" in answer["detail"]
    gone = dead(team, model="gone", ordering_key="")
    before = whole(gone.id)
    assert "no model 'gone'" in refused(before, post(operator, f"{gone.id}/replay/"), 422, "invalid-input")["detail"]


def test_a_stored_input_that_the_version_would_refuse_is_refused_with_row_and_column(
    team: Team, operator: Client
) -> None:
    job = dead(team)
    before = whole(job.id)
    body = refused(before, post(operator, f"{job.id}/replay/", {"version": "5"}), 422, "invalid-input")
    assert body["errors"] == [
        {
            "pointer": "/rows/0/b",
            "detail": "row 0, column 'b': a value is required, this column may not be missing",
        },
        {"pointer": "/rows/1/c", "detail": "row 1, column 'c': -4 is outside the range 0 to 1"},
    ]


V2 = [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [7, None, 9]}]


@pytest.mark.parametrize(
    "body",
    [
        {"rows": [[7, None, 9]]},
        {"rows": [{"c": 9, "b": None, "a": 7}]},
        {"inputs": V2},
        {"inputs": V2, "version": "1"},
        {"inputs": V2, "version": None},
    ],
)
def test_another_input_is_read_as_that_of_a_new_job(team: Team, operator: Client, body: Any) -> None:
    job = dead(team)
    assert post(operator, f"{job.id}/replay/", body).status_code == 202
    after = whole(job.id)
    expected = np.array([[7, np.nan, 9]], "<f4")
    assert (after["rows"], after["input"], after["version"]) == (1, expected.tobytes(), "1")
    assert after["reply"]["format"] == "v2"
    assert AuditEntry.objects.get().changes == {"rows": [2, 1], "input_sha256": [digest(MATRIX), digest(expected)]}


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"rows": [[1, 2, 3000]]}, 422, "/rows/0/2"),
        ({"rows": [{"a": 1, "b": 1, "c": "x"}]}, 422, "/rows/0/c"),
        ({"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}, 422, "/inputs/0/shape"),
        ({"rows": [[1, 2, 3]], "inputs": V2}, 422, "/rows"),
        ({"rows": []}, 422, "/rows"),
        ({"rows": None}, 400, None),
        ({"inputs": None}, 400, None),
        ({"version": 2}, 422, "/version"),
        ({"id": "x"}, 422, "/id"),
        ({"outputs": [], "a/b": 1}, 422, "/a~1b"),
        ("[]", 400, None),
        ("{", 400, None),
        ("\x00", 400, None),
        ({"rows": [[1, 2, 3]] * 10_001}, 413, None),
    ],
)
def test_a_body_that_makes_no_sense_is_refused_and_changes_nothing(
    team: Team, operator: Client, body: Any, status: int, pointer: str | None
) -> None:
    job = dead(team)
    before = whole(job.id)
    slug = {400: "malformed", 413: "too-large", 422: "invalid-input"}[status]
    answer = refused(before, post(operator, f"{job.id}/replay/", body), status, slug)
    assert pointer is None or answer["errors"][0]["pointer"] == pointer


def test_an_input_larger_than_a_message_may_be_is_refused(team: Team, operator: Client, monkeypatch: Any) -> None:
    monkeypatch.setattr(rerun, "MAX_INPUT_BYTES", 23)
    job = dead(team)
    before = whole(job.id)
    assert "5 (rows times columns)" in refused(before, post(operator, f"{job.id}/replay/"), 413, "too-large")["detail"]


def test_an_input_that_retention_removed_has_to_be_sent_again(team: Team, operator: Client) -> None:
    job = dead(team, input=b"", input_sha256=digest(MATRIX), purged_at=timezone.now())
    before = whole(job.id)
    assert "removed when it grew old" in refused(before, post(operator, f"{job.id}/replay/"), 422, "invalid-input")["detail"]  # fmt: skip  # noqa: E501
    assert post(operator, f"{job.id}/replay/", {"rows": [[1, 2, 3]]}).status_code == 202
    after = whole(job.id)
    assert (after["purged_at"], after["rows"]) == (None, 1)
    assert AuditEntry.objects.get().changes["input_sha256"] == [digest(MATRIX), digest([[1, 2, 3]])]


# Discard


def test_a_discarded_one_leaves_the_list_and_stays_what_it_is(team: Team, operator: Client) -> None:
    job, another = dead(team), dead(team)
    before = whole(job.id)
    answer = post(operator, f"{job.id}/discard/", {"reason": "  the sensor was broken\n"})
    assert answer.status_code == 200
    assert (answer.json()["id"], answer.json()["discarded_at"] is None) == (str(job.id), False)
    after = whole(job.id)
    assert after.pop("discarded_at") is not None
    assert after.items() <= before.items()
    assert [letter["id"] for letter in operator.get(URL).json()["results"]] == [str(another.id)]
    entry = AuditEntry.objects.get()
    assert (entry.who, entry.action, entry.job_id, entry.reason, entry.changes) == ("key operator", "discard", job.id, "the sensor was broken", {})  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    "body",
    [
        None, {}, {"reason": ""}, {"reason": " \n"}, {"reason": "x" * 1001}, {"reason": "a\0b"},
        '{"reason": "\\ud800"}', {"reason": None}, {"reason": 1}, {"reason": ["x"]},
    ],
)  # fmt: skip
def test_a_discard_needs_a_reason(team: Team, operator: Client, body: Any) -> None:
    job = dead(team)
    before = whole(job.id)
    answer = refused(before, post(operator, f"{job.id}/discard/", body), 422, "invalid-input")
    assert answer["errors"][0]["pointer"] == "/reason"
    problem(post(operator, "discard/", {"ids": [str(job.id)]}), 422, "invalid-input")
    assert post(operator, f"{job.id}/discard/", {"reason": "x" * 1000}).status_code == 200


# Neither of them


@pytest.mark.parametrize("state", sorted(frozenset(State) - {State.DEAD_LETTERED}))
@pytest.mark.parametrize(("act", "body"), [("replay", {}), ("discard", {"reason": "x"})])
def test_only_what_is_dead_lettered_is_replayed_or_discarded(
    team: Team, operator: Client, state: State, act: str, body: Any
) -> None:
    if state is State.RUNNING:
        job = rows.make_running(team)
    else:
        ended = state in (State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED)
        job = make_final(team, state) if ended else make_job(team, state=state)
    before = whole(job.id)
    detail = refused(before, post(operator, f"{job.id}/{act}/", body), 409, "conflict")["detail"]
    assert f"is {state}" in detail


@pytest.mark.parametrize(("act", "body"), [("replay", {}), ("discard", {"reason": "x"})])
def test_what_was_dealt_with_is_refused_and_what_never_was_is_unknown(
    team: Team, operator: Client, act: str, body: Any
) -> None:
    replayed, discarded = dead(team), dead(team, ordering_key="")
    post(operator, f"{replayed.id}/replay/")
    post(operator, f"{discarded.id}/discard/", {"reason": "x"})
    assert "is queued" in problem(post(operator, f"{replayed.id}/{act}/", body), 409, "conflict")["detail"]
    assert "was discarded at" in problem(post(operator, f"{discarded.id}/{act}/", body), 409, "conflict")["detail"]
    problem(post(operator, f"{uuid4()}/{act}/", body), 404, "not-found")
    problem(post(operator, f"nonsense/{act}/", body), 404, "not-found")
    assert AuditEntry.objects.count() == 2


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("other", ["replay", "discard"])
def test_of_two_people_at_once_one_wins(team: Team, other: str) -> None:
    for _ in range(5):
        job = dead(team, ordering_key="")

        def act(kind: str, job: Job = job) -> str:
            try:
                if kind == "replay":
                    dead_letters.replay(job_id=job.id, caller=caller(team))
                else:
                    dead_letters.discard(job_id=job.id, caller=caller(team), reason="x")
            except NotWaiting:
                return "late"
            return kind

        done = in_threads(lambda: act("replay"), lambda act=act: act(other))  # type: ignore[misc]
        assert sorted(done).count("late") == 1
        (won,) = set(done) - {"late"}
        after = whole(job.id)
        assert (after["state"], after["attempt"]) == (("queued", 4) if won == "replay" else ("dead_lettered", 3))
        assert (after["discarded_at"] is None) is (won == "replay")
        assert [entry.action for entry in AuditEntry.objects.filter(job_id=job.id)] == [won]


def test_one_that_was_replayed_and_died_again_meanwhile_is_another_one(team: Team, monkeypatch: Any) -> None:
    job = dead(team)

    def meanwhile(release: Any) -> Any:
        Job.objects.filter(id=job.id).update(attempt=4)
        return MATRIX

    with pytest.raises(NotWaiting, match="meanwhile"):
        dead_letters.replay(job_id=job.id, caller=caller(team), read=meanwhile)
    assert not AuditEntry.objects.exists()


# In bulk


def test_in_bulk_each_gets_its_own_answer(team: Team, operator: Client) -> None:
    first, second, third = (dead(team, ordering_key="") for _ in range(3))
    bad = dead(team, sha256="0" * 64, ordering_key="")
    other = make_job(team)
    unknown = uuid4()
    ids = [str(first.id), "x", str(bad.id), str(unknown), 7, None, [], str(other.id), str(first.id), str(second.id)]
    answer = post(operator, "replay/", {"ids": ids})
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [r["status"] for r in results] == [202, 404, 422, 404, 404, 404, 404, 409, 409, 202]
    assert results[0] == {"status": 202, "Id": str(first.id), "StatusPath": f"/status/m/{first.id}", "ResultPath": f"/result/m/{first.id}"}  # fmt: skip  # noqa: E501
    assert results[2]["type"] == "/problems/invalid-input" and results[2]["errors"]
    assert results[7]["type"] == "/problems/conflict" and results[7]["retryable"] is False
    assert [whole(job.id)["state"] for job in (first, second, third)] == ["queued", "queued", "dead_lettered"]
    results = post(operator, "discard/", {"ids": [str(first.id), str(third.id)], "reason": "x"}).json()["results"]
    assert [r["status"] for r in results] == [409, 200]
    assert results[1]["discarded_at"]
    assert AuditEntry.objects.count() == 3


def test_in_bulk_to_another_version(team: Team, operator: Client) -> None:
    jobs = [dead(team, ordering_key="") for _ in range(2)]
    ids = [str(job.id) for job in jobs]
    statuses = [r["status"] for r in post(operator, "replay/", {"ids": ids, "version": "2"}).json()["results"]]
    assert statuses == [202, 202] and {whole(job.id)["version"] for job in jobs} == {"2"}


@pytest.mark.parametrize("ids", [None, [], "x", {}, [str(uuid4())] * 1001])
@pytest.mark.parametrize(("act", "body"), [("replay", {}), ("discard", {"reason": "x"})])
def test_a_list_of_ids_has_one_to_a_thousand(team: Team, operator: Client, ids: Any, act: str, body: Any) -> None:
    answer = problem(post(operator, f"{act}/", {"ids": ids, **body}), 422, "invalid-input")
    assert answer["errors"][0]["pointer"] == "/ids"
    problem(post(operator, f"{act}/"), 422, "invalid-input")
    problem(post(operator, f"{act}/", {"ids": [], "rows": [], **body}), 422, "invalid-input")


# The list and one of it


def test_the_list_has_what_waits_the_latest_first_in_pages(team: Team, operator: Client) -> None:
    now = timezone.now()
    jobs = [dead(team, finished_at=now - timedelta(seconds=i // 2)) for i in range(7)]
    dead(team, discarded_at=now)
    make_final(team, State.FAILED)
    seen, path = [], URL + "?page_size=2"
    while path:
        page = operator.get(path).json()
        assert page.keys() == {"next", "previous", "results"}
        seen += page["results"]
        path = page["next"]
    assert {letter["id"] for letter in seen} == {str(job.id) for job in jobs} and len(seen) == 7
    times = [letter["finished_at"] for letter in seen]
    assert times == sorted(times, reverse=True)
    assert seen[0] == {
        "id": seen[0]["id"],
        "team": "team",
        "submitted_by": "test",
        "model": "m",
        "version": "1",
        "rows": 2,
        "attempt": 3,
        "isolated": True,
        "reason": {"code": "worker-lost", "message": "it died"},
        "worker": "cpu@host/1",
        "accepted_at": seen[0]["accepted_at"],
        "finished_at": times[0],
        "discarded_at": None,
    }


def test_the_list_is_read_without_payloads_and_with_few_queries(
    team: Team, operator: Client, django_assert_max_num_queries: Any
) -> None:
    for _ in range(5):
        dead(team)
    operator.get(URL)
    with django_assert_max_num_queries(2) as queries:
        assert len(operator.get(URL).json()["results"]) == 5
    assert not any('"input"' in query["sql"] or '"result"' in query["sql"] for query in queries.captured_queries)


def test_the_list_is_filtered(team: Team, operator: Client) -> None:
    mine = dead(team)
    wine = dead(rows.make_team("other"), model="wine", version="2", error_code=ErrorCode.TIMED_OUT)

    def found(**parameters: str) -> set[str]:
        return {letter["id"] for letter in operator.get(URL, parameters).json()["results"]}

    both = {str(mine.id), str(wine.id)}
    assert found() == both
    assert found(model="wine") == found(version="2") == found(team="other") == {str(wine.id)}
    assert found(code="timed-out") == {str(wine.id)} and found(code="worker-lost", model="m") == {str(mine.id)}
    assert found(code="worker-lost", model="wine") == found(team="nobody") == set()


@pytest.mark.parametrize("path", ["", "messages/"])
def test_an_odd_parameter_of_a_list_is_refused(operator: Client, path: str) -> None:
    assert "no filter 'state'" in problem(operator.get(f"{URL}{path}?state=queued"), 422, "invalid-input")["detail"]
    name = "queue" if path else "model"
    answer = problem(operator.get(f"{URL}{path}?{name}=%00"), 422, "invalid-input")
    assert answer["errors"][0]["pointer"] == f"/{name}"
    for cursor in ("x", "%00", "cD1ub25zZW5zZQ%3D%3D", "cD0lMDA%3D", "bz0tNQ%3D%3D", "cD05OTk5LTEyLTMxVDIzOjU5OjU5LTE0OjAw"):  # fmt: skip  # noqa: E501
        assert operator.get(f"{URL}{path}?cursor={cursor}").status_code in (200, 400, 404)


def test_one_is_shown_with_attempts_tracebacks_input_and_what_was_done_to_it(team: Team, operator: Client) -> None:
    job = dead(team)
    shown = operator.get(f"{URL}{job.id}/").json()
    assert [a["number"] for a in shown["attempts"]] == [1, 2, 3]
    assert shown["attempts"][2]["traceback"] == "Traceback 3" and shown["attempts"][2]["code"] == "worker-lost"
    assert shown["input"] == {"rows": [{"a": 1.5, "b": None, "c": 0.1}, {"a": 2.5, "b": 3.5, "c": -4.0}]}
    assert shown["audit"] == []
    post(operator, f"{job.id}/discard/", {"reason": "done with"})
    shown = operator.get(f"{URL}{job.id}/").json()
    assert shown["discarded_at"]
    (entry,) = shown["audit"]
    assert (entry["who"], entry["action"], entry["reason"]) == ("key operator", "discard", "done with")


@pytest.mark.parametrize("fields", [{}, {"version": "3", "input": np.float32([[0.1, np.nan, 1e-38, 3.4e38, 16777216]]).tobytes(), "rows": 1}, {"sha256": "0" * 64}])  # fmt: skip  # noqa: E501
def test_the_input_that_is_shown_can_be_posted_back_unchanged(team: Team, operator: Client, fields: Any) -> None:
    job = dead(team, **fields)
    before = whole(job.id)["input"]
    shown = operator.get(f"{URL}{job.id}/").json()["input"]
    assert post(operator, f"{job.id}/replay/", shown).status_code == 202
    assert whole(job.id)["input"] == before


def test_an_input_that_is_gone_is_shown_as_none(team: Team, operator: Client) -> None:
    job = dead(team, input=b"", purged_at=timezone.now())
    assert operator.get(f"{URL}{job.id}/").json()["input"] is None


def test_what_is_no_dead_letter_is_not_shown_as_one(team: Team, operator: Client) -> None:
    for job_id in (make_job(team).id, make_final(team, State.SUCCEEDED).id, uuid4()):
        problem(operator.get(f"{URL}{job_id}/"), 404, "not-found")


# Parked messages


def test_parked_messages_are_listed_with_the_beginning_of_their_bodies(operator: Client) -> None:
    park(), park(queue="other", body=b"", size=0)
    body = b"\xff\0" + "€".encode() * 5000
    large = park(body=body, size=len(body), queue="results.recorder")
    shown = operator.get(URL + "messages/").json()["results"]
    assert [(m["queue"], m["size"]) for m in shown[1:]] == [("other", 0), ("inference.cpu", 4)]
    assert shown[1]["body"] == ""
    assert shown[0] == {
        "id": large.pk,
        "received_at": shown[0]["received_at"],
        "queue": "results.recorder",
        "reason": "rejected",
        "error": "UnreadableMessage: not a bundle",
        "headers": '{"task": "other"}',
        "body": "\N{REPLACEMENT CHARACTER}\0" + "€" * 3998,
        "size": len(body),
        "discarded_at": None,
    }
    found = operator.get(URL + "messages/?queue=inference.cpu&reason=rejected").json()["results"]
    assert [m["body"] for m in found] == ["body"]


def test_the_list_of_messages_reads_only_the_beginning_of_bodies(
    operator: Client, django_assert_max_num_queries: Any
) -> None:
    park()
    operator.get(URL + "messages/")
    with django_assert_max_num_queries(2) as queries:
        operator.get(URL + "messages/")
    assert "SUBSTR" in queries.captured_queries[-1]["sql"]


def test_a_parked_message_is_discarded_once_and_with_a_reason(operator: Client) -> None:
    message, another = park(), park()
    path = f"messages/{message.pk}/discard/"
    problem(post(operator, path), 422, "invalid-input")
    answer = post(operator, path, {"reason": "a test"})
    assert (answer.status_code, answer.json()["id"], answer.json()["discarded_at"] is None) == (200, message.pk, False)
    problem(post(operator, path, {"reason": "again"}), 409, "conflict")
    for unknown in (0, another.pk + 1, 2**63, 10**30):
        problem(post(operator, f"messages/{unknown}/discard/", {"reason": "x"}), 404, "not-found")
    assert [m["id"] for m in operator.get(URL + "messages/").json()["results"]] == [another.pk]
    entry = AuditEntry.objects.get()
    assert (entry.who, entry.action, entry.message_id, entry.job_id, entry.reason) == ("key operator", "discard", message.pk, None, "a test")  # fmt: skip  # noqa: E501


# Who may, and what is told about it

ROUTES = {
    "": "GET",
    "replay/": "POST",
    "discard/": "POST",
    "messages/": "GET",
    "messages/{message}/discard/": "POST",
    "{job}/": "GET",
    "{job}/replay/": "POST",
    "{job}/discard/": "POST",
}


def test_the_table_of_routes_is_complete() -> None:
    patterns = [str(p.pattern) for p in urlpatterns if isinstance(p, URLPattern)]
    ours = [p.removeprefix("api/dead-letters/") for p in patterns if p.startswith("api/dead-letters/")]
    filled = {p.replace("<job_id:job_id>", "{job}").replace("<int:message_id>", "{message}") for p in ours}
    assert filled == ROUTES.keys()


@pytest.mark.parametrize("who", ["nobody", Role.VIEWER, Role.SUBMITTER, Role.OPERATOR])
@pytest.mark.parametrize("route", ROUTES)
def test_all_of_it_is_for_operators(team: Team, route: str, who: Any) -> None:
    sender = Client() if who == "nobody" else client(team, who)
    for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"):
        job, message = dead(team, ordering_key=""), park()
        body: dict[str, Any] = {"ids": [str(job.id)]} if route in ("replay/", "discard/") else {}
        body |= {"reason": "x"} if "discard" in route else {}
        path = URL + route.format(job=job.id, message=message.pk)
        answer = sender.generic(method, path, json.dumps(body), "application/json")
        allowed = {ROUTES[route], "OPTIONS"} | ({"HEAD"} if ROUTES[route] == "GET" else set())
        if who == "nobody":
            expected = {401}
        elif who is not Role.OPERATOR:
            expected = {403} if method in allowed else {403, 405}
        else:
            expected = {200, 202} if method in allowed else {405}
        assert answer.status_code in expected, f"{method} {path}"
        if answer.status_code >= 400 and method != "HEAD":
            assert answer["Content-Type"] == "application/problem+json"
            assert whole(job.id)["state"] == "dead_lettered" and not AuditEntry.objects.filter(job_id=job.id).exists()


def test_the_openapi_document_describes_them_with_examples(operator: Client) -> None:
    document = json.loads(operator.get("/api/schema/").content)
    validate(document)
    ours = {path: verbs for path, verbs in document["paths"].items() if path.startswith(URL)}
    assert len(ours) == len(ROUTES)
    for path, verbs in ours.items():
        for verb, operation in verbs.items():
            assert operation["summary"] and operation["operationId"], (path, verb)
            assert {"401", "403"} <= operation["responses"].keys() or verb == "get"
            text = json.dumps(operation)
            assert text.count('"examples"') >= (2 if verb == "post" else 1), (path, verb)
    names = [operation["operationId"] for verbs in document["paths"].values() for operation in verbs.values()]
    assert len(set(names)) == len(names)


NONSENSE: list[Any] = [None, True, -1, 1e400, "", "\ud800", "\0", "x" * 5000, [], {}, [[]], [None], {"a": {"b": []}}]


@pytest.mark.parametrize("field", ["version", "inputs", "rows", "reason", "ids", "x"])
def test_no_input_is_an_error_of_ours(team: Team, operator: Client, field: str) -> None:
    job, message = dead(team, ordering_key=""), park()
    for route in (r for r, method in ROUTES.items() if method == "POST"):
        for value in NONSENSE:
            for more in ({}, {"ids": [str(job.id)]}, {"reason": "x"}, {"rows": [[1, 2, 3]]}):
                path = route.format(job=job.id, message=message.pk)
                answer = post(operator, path, json.dumps({**more, field: value}))
                assert answer.status_code < 500, (path, field, value)
    assert operator.get(URL).status_code == 200
