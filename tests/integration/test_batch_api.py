"""/api/batches/ over HTTP: what is accepted and refused, who sees what, progress, files."""

import json
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from inference_portal.accounts.models import Role, Team
from inference_portal.batches.ending import tell
from inference_portal.batches.models import Batch, Kind
from inference_portal.batches.models.batch import CHUNK_ROWS
from inference_portal.batches.states import FINAL, State
from inference_portal.jobs.models import Job
from tests.integration import rows
from tests.integration.http import client, hang_up, post, problem, send
from tests.integration.made_batches import ERRORS, OUTPUT, add_chunks, make_batch, make_done, store
from tests.integration.schedules import make_schedule

pytestmark = pytest.mark.django_db
PATH = "/api/batches/"


@pytest.fixture(autouse=True)
def storage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A storage of this test's own, and a folder that batches may use."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("DATA_FOLDERS", str(tmp_path / "shared"))
    return tmp_path / "data"


def uploaded(team: Team, name: str = "wines.csv") -> str:
    uri = f"store://uploads/{team.pk}/{uuid4()}/{name}"
    store(uri, b"alcohol\n1\n")
    return uri


def path(batch: Batch, end: str = "") -> str:
    return f"{PATH}{batch.id}/{end}"


# Asking for one


def test_a_batch_is_accepted_with_its_first_step(team: Team, submitter: Client, tmp_path: Path) -> None:
    uri = uploaded(team)
    answer = post(submitter, PATH, {"model": "wine", "input": {"uri": uri}})
    assert answer.status_code == 202, answer.content
    body = answer.json()
    assert answer["Location"] == f"{PATH}{body['id']}/" and submitter.get(answer["Location"]).json() == body
    assert (body["state"], body["version"], body["retry_policy"], body["chunk_rows"]) == (
        "queued",
        "1",
        "partial",
        CHUNK_ROWS,
    )
    assert body["input"]["uri"] == uri and body["output"] == {"uri": None, "format": "parquet"}
    (step,) = Job.objects.filter(batch_id=body["id"])
    assert step.step == "plan"
    assert submitter.get("/api/jobs/").json()["results"] == []
    whole = {
        "model": "wine",
        "version": "1",
        "input": {"uri": f"file://{tmp_path}/shared/a.csv", "format": "csv", "delimiter": ";", "header": False},
        "output": {"uri": f"file://{tmp_path}/shared/b.csv", "format": "csv"},
        "keep_columns": ["id"],
        "chunk_rows": 500,
        "retry_policy": "all",
        "max_attempts": 1,
        "error_threshold": 0,
        "deadline": "2050-01-31T06:00:00+01:00",
    }
    body = post(submitter, PATH, whole).json()
    assert {name: body[name] for name in whole if name not in ("input", "deadline")} == {
        name: value for name, value in whole.items() if name not in ("input", "deadline")
    }
    assert body["deadline"] == "2050-01-31T05:00:00Z" and body["input"]["delimiter"] == ";"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "/model"),
    ({"model": 1}, "/model"),
    ({"version": 1}, "/version"),
    ({"input": None}, "/input"),
    ({"input": "store://x"}, "/input"),
    ({"input": {}}, "/input/uri"),
    ({"input": {"uri": 1}}, "/input/uri"),
    ({"input": {"uri": "ftp://x/y"}}, "/input/uri"),
    ({"input": {"uri": "file:///etc/passwd"}}, "/input/uri"),
    ({"input": {"uri": "store://uploads/../x"}}, "/input/uri"),
    ({"input": {"uri": "s3://bucket/x"}}, "/input/uri"),
    ({"input": {"uri": "file:///a\0b"}}, "/input/uri"),
    ({"input": {"uri": "{own}", "what": 1}}, "/input/what"),
    ({"input": {"uri": "{own}", "format": "xls"}}, "/input/format"),
    ({"input": {"uri": "{own}", "delimiter": "::"}}, "/input/delimiter"),
    ({"input": {"uri": "{own}", "encoding": "klingon"}}, "/input/encoding"),
    ({"output": []}, "/output"),
    ({"output": {"format": "xls"}}, "/output/format"),
    ({"output": {"format": ["csv"]}}, "/output/format"),
    ({"output": {"uri": "{own}"}}, "/output/uri"),
    ({"output": {"uri": "file:///etc/x.csv"}}, "/output/uri"),
    ({"output": {"path": "x"}}, "/output/path"),
    ({"keep_columns": "id"}, "/keep_columns"),
    ({"keep_columns": ["id", "id"]}, "/keep_columns/1"),
    ({"keep_columns": [7]}, "/keep_columns/0"),
    ({"keep_columns": ["a\0"]}, "/keep_columns/0"),
    ({"keep_columns": [f"{n:0>256}" for n in range(126)]}, "/keep_columns"),
    ({"chunk_rows": 0}, "/chunk_rows"),
    ({"error_threshold": 10**400}, "/error_threshold"),
    ({"deadline": "9999-12-31T23:59:59-14:00"}, "/deadline"),
    ({"chunk_rows": True}, "/chunk_rows"),
    ({"chunk_rows": 10**30}, "/chunk_rows"),
    ({"chunk_rows": 1.5}, "/chunk_rows"),
    ({"retry_policy": "sometimes"}, "/retry_policy"),
    ({"retry_policy": ["all"]}, "/retry_policy"),
    ({"max_attempts": 0}, "/max_attempts"),
    ({"max_attempts": "3"}, "/max_attempts"),
    ({"error_threshold": 1.01}, "/error_threshold"),
    ({"error_threshold": -1}, "/error_threshold"),
    ({"error_threshold": float("nan")}, "/error_threshold"),
    ({"error_threshold": True}, "/error_threshold"),
    ({"deadline": "tomorrow"}, "/deadline"),
    ({"deadline": "2050-01-31T06:00:00"}, "/deadline"),
    ({"deadline": "2020-01-31T06:00:00Z"}, "/deadline"),
    ({"deadline": "0001-01-01T00:00:00+14:00"}, "/deadline"),
    ({"deadline": 4_000_000_000}, "/deadline"),
    ({"schedule": "x"}, "/schedule"),
    ({"a/b": 1}, "/a~1b"),
]


@pytest.mark.parametrize(("wrong", "pointer"), WRONG, ids=lambda each: str(each)[:60])
def test_each_wrong_field_is_named_and_nothing_is_stored(
    team: Team, submitter: Client, wrong: dict[str, Any], pointer: str
) -> None:
    own = uploaded(team)
    body = json.loads(json.dumps({"model": "wine", "input": {"uri": own}} | wrong).replace("{own}", own))
    answer = problem(post(submitter, PATH, body), 422, "invalid-input")
    assert [fault["pointer"] for fault in answer["errors"]] == [pointer], answer
    assert not Batch.objects.exists() and not Job.objects.exists()


def test_all_wrong_types_are_named_at_once(submitter: Client) -> None:
    body = {"model": 1, "input": 2, "chunk_rows": "x"}
    answer = problem(post(submitter, PATH, body), 422, "invalid-input")
    assert {fault["pointer"] for fault in answer["errors"]} == {"/model", "/input", "/chunk_rows"}


def test_what_is_no_json_object_or_names_no_model_is_refused(team: Team, submitter: Client) -> None:
    problem(post(submitter, PATH, "{"), 400, "malformed")
    problem(post(submitter, PATH, []), 400, "malformed")
    problem(post(submitter, PATH, "x", content_type="text/csv"), 415, "unsupported-media-type")
    right = {"input": {"uri": uploaded(team)}}
    problem(post(submitter, PATH, right | {"model": "nothing"}), 404, "not-found")
    problem(post(submitter, PATH, right | {"model": "wine", "version": "77"}), 404, "not-found")
    problem(post(submitter, PATH, right | {"model": "a\0"}), 404, "not-found")
    for header in ("Idempotency-Key", "X-Inference-Id", "X-Inference-Ttl"):
        problem(post(submitter, PATH, right | {"model": "wine"}, **{header: "1"}), 422, "not-available")


def test_another_teams_data_is_refused_like_data_that_never_were(team: Team, submitter: Client) -> None:
    other = rows.make_team("other")
    theirs = make_done(other)
    upload = uploaded(other)
    pairs = [
        (upload, f"store://uploads/{other.pk}/{uuid4()}/wines.csv"),
        (f"{theirs.folder}/output.csv", f"store://batches/{uuid4()}/output.csv"),
    ]
    for existing, unknown in pairs:
        details = [
            problem(post(submitter, PATH, {"model": "wine", "input": {"uri": uri}}), 422, "invalid-input")["errors"][0]
            for uri in (existing, unknown)
        ]
        assert details[0]["detail"].replace(existing, "") == details[1]["detail"].replace(unknown, "")
        assert details[0]["pointer"] == "/input/uri"
    own = make_done(team)
    body = {"model": "wine", "input": {"uri": f"{own.folder}/output.csv"}}
    assert post(submitter, PATH, body).status_code == 202
    assert post(client(team, Role.OPERATOR), PATH, {"model": "wine", "input": {"uri": upload}}).status_code == 202


# Looking


def test_the_list_has_pages_and_filters(team: Team, submitter: Client) -> None:
    made = [make_batch(team, created_at=timezone.now() - timedelta(minutes=i)) for i in range(5)]
    make_batch(rows.make_team("other"))
    done = make_batch(team, State.SUCCEEDED, model="iris", created_at=timezone.now() - timedelta(days=1))
    found, page = [], submitter.get(f"{PATH}?page_size=2").json()
    while True:
        found += [batch["id"] for batch in page["results"]]
        if page["next"] is None:
            break
        page = submitter.get(page["next"]).json()
    assert found == [str(batch.id) for batch in (*made, done)]
    for query in ("state=succeeded", "model=iris", "state=succeeded&model=iris"):
        assert [batch["id"] for batch in submitter.get(f"{PATH}?{query}").json()["results"]] == [str(done.id)]
    assert submitter.get(f"{PATH}?model=nothing").json()["results"] == []
    problem(submitter.get(f"{PATH}?state=done"), 422, "invalid-input")
    problem(submitter.get(f"{PATH}?rows=1"), 422, "invalid-input")
    problem(submitter.get(f"{PATH}?cursor=x"), 400, "malformed")


def test_a_batch_says_how_far_it_is(team: Team, submitter: Client) -> None:
    batch = make_batch(team, State.RUNNING, eta=timezone.now() + timedelta(seconds=100), pace=5.0)
    body = submitter.get(path(batch)).json()
    assert (body["rows_total"], body["rows_done"], body["chunks"]) == (1_000, 500, {"total": 10, "done": 5})
    assert 90 < body["seconds_left"] <= 100 and body["rows_per_second"] == 5
    assert body["error"] is None and body["receipt"] is None
    failed = submitter.get(path(make_batch(team, State.FAILED))).json()
    assert failed["error"]["code"] == "too-many-errors" and failed["seconds_left"] is None


@pytest.mark.parametrize(
    ("where", "parameter"),
    [("chunks", "state"), ("deliveries", "state"), ("schedule", "outcome"), ("schedule", "kind")],
)
def test_a_list_says_what_a_filter_may_be(team: Team, submitter: Client, where: str, parameter: str) -> None:
    urls = {
        "chunks": path(make_batch(team, State.RUNNING), "chunks/"),
        "deliveries": "/api/deliveries/",
        "schedule": f"/api/schedules/{make_schedule(team).id}/runs/",
    }
    told = problem(submitter.get(f"{urls[where]}?{parameter}=AAA"), 422, "invalid-input")
    assert told["errors"][0]["pointer"] == f"/{parameter}" and "expected one of" in told["detail"]


def test_a_batch_tells_the_last_of_what_happened_to_it(team: Team, submitter: Client) -> None:
    batch = make_batch(team, State.RUNNING)
    for number in range(60):
        tell(batch, Kind.CHUNK_RETRIED, f"chunk {number}: lost")
    history = submitter.get(path(batch)).json()["history"]
    assert [event["text"] for event in history] == [f"chunk {number}: lost" for number in range(10, 60)]
    assert {event["kind"] for event in history} == {Kind.CHUNK_RETRIED.value}


def test_chunks_have_pages_in_the_order_of_their_rows(team: Team, submitter: Client) -> None:
    batch = make_batch(team, State.RUNNING)
    add_chunks(batch, 7)
    batch.chunks.filter(number__gte=5).update(state="failed", reason="lost")
    found, page = [], submitter.get(path(batch, "chunks/?page_size=3")).json()
    while True:
        found += [chunk["number"] for chunk in page["results"]]
        if page["next"] is None:
            break
        page = submitter.get(page["next"]).json()
    assert found == list(range(7)) and page["previous"] is not None
    failed = submitter.get(path(batch, "chunks/?state=failed")).json()["results"]
    assert [(chunk["number"], chunk["first_row"], chunk["reason"]) for chunk in failed] == [
        (5, 500, "lost"),
        (6, 600, "lost"),
    ]
    for cursor in ("x", "cD1hYmM=", "cD05OTk5OTk5OTk5OTk5OTk5OTk5OTk5", "bz0tMQ=="):
        assert submitter.get(path(batch, f"chunks/?cursor={cursor}")).status_code in (200, 400)
    problem(submitter.get(path(batch, "chunks/?cursor=cD1hYmM=")), 400, "malformed")
    problem(submitter.get(path(batch, "chunks/?page_size=0")), 422, "invalid-input")


# Changing


def test_a_policy_and_a_deadline_change_while_it_runs(team: Team, submitter: Client) -> None:
    batch = make_batch(team, State.RUNNING)
    body = send(submitter, "PATCH", path(batch), {"retry_policy": "none", "deadline": "2050-01-01T00:00:00Z"}).json()
    assert (body["retry_policy"], body["deadline"]) == ("none", "2050-01-01T00:00:00Z")
    assert send(submitter, "PATCH", path(batch), {"deadline": None}).json()["deadline"] is None
    for wrong in (
        {},
        {"retry_policy": None},
        {"state": "failed"},
        {"retry_policy": "x"},
        {"deadline": "2020-01-01T00:00:00Z"},
    ):
        problem(send(submitter, "PATCH", path(batch), wrong), 422, "invalid-input")
    batch.refresh_from_db()
    assert (batch.retry_policy, batch.deadline, batch.state) == ("none", None, "running")
    for state in FINAL:
        problem(send(submitter, "PATCH", path(make_batch(team, state)), {"retry_policy": "all"}), 409, "conflict")


def test_an_open_batch_is_cancelled_and_an_ended_one_runs_again(team: Team, submitter: Client) -> None:
    batch = make_batch(team, State.RUNNING)
    add_chunks(batch, 10)
    problem(post(submitter, path(batch, "rerun/")), 409, "conflict")
    answer = post(submitter, path(batch, "cancel/"))
    assert (answer.status_code, answer.json()["state"]) == (202, "cancelled")
    problem(post(submitter, path(batch, "cancel/")), 409, "conflict")
    for wrong in ({"retry_policy": "none"}, {"retry_policy": 1}, {"version": "1"}):
        problem(post(submitter, path(batch, "rerun/"), wrong), 422, "invalid-input")
    answer = post(submitter, path(batch, "rerun/"), {"retry_policy": "all"})
    assert (answer.status_code, answer.json()["state"], answer.json()["attempts"]) == (202, "queued", 2)


def test_a_viewer_reads_and_changes_nothing_and_another_teams_batch_does_not_exist(team: Team) -> None:
    viewer = client(team, Role.VIEWER)
    batch, foreign = make_done(team, errors=ERRORS), make_done(rows.make_team("other"))
    reading = ["", "chunks/", "output/", "errors/", "events/"]
    for end in reading:
        assert (answer := viewer.get(path(batch, end))).status_code == 200
        hang_up(answer)
        problem(viewer.get(path(foreign, end)), 404, "not-found")
        problem(Client().get(path(batch, end)), 401, "unauthenticated")
    problem(post(viewer, PATH, {"model": "wine", "input": {"uri": uploaded(team)}}), 403, "forbidden")
    for method, end in (("PATCH", ""), ("POST", "cancel/"), ("POST", "rerun/")):
        problem(send(viewer, method, path(batch, end), {}), 403, "forbidden")
        problem(send(viewer, method, path(foreign, end), {}), 404, "not-found")
        problem(send(client(team), method, path(foreign, end), {}), 404, "not-found")


# Files


def test_the_output_is_streamed_whole_with_its_name_and_sum(team: Team, submitter: Client) -> None:
    batch = make_done(team)
    answer = submitter.get(path(batch, "output/"))
    assert answer.status_code == 200 and answer.streaming and b"".join(answer) == OUTPUT
    assert answer["Content-Length"] == str(len(OUTPUT)) and answer["Content-Type"].startswith("text/csv")
    assert answer["Content-Disposition"] == f'attachment; filename="wine-1-{str(batch.id)[:8]}.csv"'
    assert batch.receipt is not None and answer["ETag"] == f'"{batch.receipt["output"]["sha256"]}"'
    hang_up(answer)
    again = submitter.get(path(batch, "output/"), headers={"If-None-Match": answer["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = submitter.head(path(batch, "output/"))
    assert head["Content-Length"] == str(len(OUTPUT)) and b"".join(head) == b""
    hang_up(head)


SIZE = len(OUTPUT)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [("bytes=0-9", 0, 10), ("bytes=5-", 5, SIZE), ("bytes=-7", SIZE - 7, SIZE), (f"bytes=9-{10**17}", 9, SIZE),
     ("bytes=0-", 0, SIZE), (f"bytes=-{10**17}", 0, SIZE)],
)  # fmt: skip
def test_a_range_is_a_part(team: Team, submitter: Client, asked: str, start: int, end: int) -> None:
    answer = submitter.get(path(make_done(team), "output/"), headers={"Range": asked})
    assert answer.status_code == 206 and b"".join(answer) == OUTPUT[start:end]
    assert answer["Content-Range"] == f"bytes {start}-{end - 1}/{SIZE}"
    assert answer["Content-Length"] == str(end - start)
    hang_up(answer)


def test_what_is_no_range_of_this_file_gets_the_whole_or_a_problem(team: Team, submitter: Client) -> None:
    batch = make_done(team)
    for headers in (
        {"Range": "rows=1-2"},
        {"Range": "bytes=1-2,4-5"},
        {"Range": "bytes=-"},
        {"Range": "bytes=" + "9" * 40 + "-"},
        {"Range": "bytes=1-2", "If-Range": '"of another file"'},
    ):
        answer = submitter.get(path(batch, "output/"), headers=headers)
        assert answer.status_code == 200 and b"".join(answer) == OUTPUT, headers
        hang_up(answer)
    for asked in (f"bytes={SIZE}-", "bytes=9-3", "bytes=-0"):
        answer = submitter.get(path(batch, "output/"), headers={"Range": asked})
        problem(answer, 416, "no-such-bytes")
        assert answer["Content-Range"] == f"bytes */{SIZE}"


def test_before_and_without_an_output_there_is_a_conflict_and_afterwards_it_is_gone(
    team: Team, submitter: Client, storage: Path
) -> None:
    for state in set(State) - {State.SUCCEEDED, State.PARTIAL}:
        for end in ("output/", "errors/"):
            problem(submitter.get(path(make_batch(team, state), end)), 409, "conflict")
    purged = make_done(team, errors=ERRORS, purged_at=timezone.now())
    lost = make_done(team, errors=ERRORS)
    for name in ("output.csv", "errors.csv"):
        (storage / "batches" / str(lost.id) / name).unlink()
    other = make_done(team, errors=ERRORS)
    for name in ("output.csv", "errors.csv"):
        store(f"{other.folder}/{name}", b"another file\n")
    for batch in (purged, lost, other):
        for end in ("output/", "errors/"):
            problem(submitter.get(path(batch, end)), 410, "result-purged")


def test_errors_are_a_file_and_its_beginning_is_json(team: Team, submitter: Client) -> None:
    batch = make_done(team, errors=ERRORS)
    for headers in ({}, {"Accept": "text/csv"}, {"Accept": "*/*"}):
        answer = submitter.get(path(batch, "errors/"), headers=headers)
        assert b"".join(answer) == ERRORS and answer["Content-Disposition"].endswith('-errors.csv"')
        hang_up(answer)
    body = submitter.get(path(batch, "errors/"), headers={"Accept": "application/json"}).json()
    assert len(body["results"]) == 1_000 and body["more"] is True
    assert body["results"][999] == {"row": 999, "column": "hue", "reason": 'no number, but "x"'}
    problem(submitter.get(path(batch, "errors/"), headers={"Accept": "image/png"}), 406, "not-acceptable")
    clean = make_done(team)
    assert submitter.get(path(clean, "errors/")).content == b"row,column,reason\n"
    as_json = submitter.get(path(clean, "errors/"), headers={"Accept": "application/json"})
    assert as_json.json() == {"results": [], "more": False}


# Following


def read(answer: Any) -> list[tuple[str, dict[str, Any]]]:
    """Read a stream to its end."""
    blocks = b"".join(answer.streaming_content).decode().strip("\n").split("\n\n")
    fields = [dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")) for block in blocks]
    return [(each["id"], json.loads(each["data"])) for each in fields if "data" in each]


@pytest.mark.django_db(transaction=True)
def test_state_and_progress_are_told_until_the_end_and_who_saw_it_gets_204(team: Team, submitter: Client) -> None:
    batch = make_batch(team, State.RUNNING)
    answer = submitter.get(path(batch, "events/"))
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/event-stream")
    told: list[tuple[str, dict[str, Any]]] = []

    def follow() -> None:
        try:
            told.extend(read(answer))
        finally:
            connections.close_all()

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    for rows_done in (600, 700):
        threading.Event().wait(1.2)
        Batch.objects.filter(id=batch.id).update(rows_done=rows_done)
    threading.Event().wait(1.2)
    Batch.objects.filter(id=batch.id).update(state="succeeded", finished_at=timezone.now(), rows_done=1_000)
    reader.join(20)
    assert not reader.is_alive()
    hang_up(answer)
    assert [(body["state"], body["rows_done"]) for _, body in told] == [
        ("running", 500), ("running", 600), ("running", 700), ("succeeded", 1_000),
    ]  # fmt: skip
    assert told[-1][1] == submitter.get(path(batch)).json()
    last = told[-1][0]
    assert submitter.get(path(batch, "events/"), headers={"Last-Event-ID": last}).status_code == 204
    other = submitter.get(path(batch, "events/"), headers={"Last-Event-ID": told[0][0]})
    assert [event for event, _ in read(other)] == [last]
    hang_up(other)
