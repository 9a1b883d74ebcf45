"""Batches through the real processes: outputs to the bit, each policy, and every process killed on the way."""

import csv
import io
import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest

from tests import services
from tests.acceptance import batches
from tests.acceptance.batches import (
    as_table,
    at_work,
    begin,
    chunks,
    dawdling,
    direct,
    ended,
    fails,
    left,
    look,
    no_output,
    output,
    parquet,
    poisoned,
    probabilities,
    problem,
    tidy,
    told,
    upload,
)
from tests.stack import ROOT, Stack, running, wait_for

# Kills whoever predicts a row with this in column `a`: once, then once more alone, and then it counts: see POLICY.
DEADLY = np.float32(666.5)
KILLS = f"worker.in_predict@{DEADLY.tobytes().hex()}=kill*3"
CHUNKS, CHUNK_ROWS = 20, 100
JSON = {"Accept": "application/json"}


@pytest.fixture(scope="module", params=["embedded", "full"])
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Both systems, one after the other, with the model `m`."""
    folder = tmp_path_factory.mktemp(f"batches-{request.param}")
    variables = batches.variables(folder, FAILPOINTS=KILLS)
    with ExitStack() as context:
        if request.param == "full":
            server = request.getfixturevalue("postgres")
            node = request.getfixturevalue("rabbitmq")
            variables["database_url"] = context.enter_context(services.migrated_database(server))
            variables["broker_url"] = context.enter_context(services.virtual_host(node))
        yield context.enter_context(running(Stack(folder / "run", **variables)))


embedded_only = pytest.mark.parametrize("stack", ["embedded"], indirect=True)
full_only = pytest.mark.parametrize("stack", ["full"], indirect=True)


@pytest.fixture
def shared(stack: Stack) -> Path:
    """The folder that batches may use."""
    return Path(stack.environment["DATA_FOLDERS"])


def test_a_parquet_file_comes_back_as_the_models_own_predictions(stack: Stack) -> None:
    values = batches.rows(10_000)
    uri = upload(stack, "rows.parquet", parquet(values))
    batch = begin(stack, uri, chunk_rows=3_000, keep_columns=["id", "b"])
    found = ended(stack, batch)
    assert (found["state"], found["rows_total"], found["rows_done"], found["rows_failed"]) == (
        "succeeded", 10_000, 10_000, 0,
    )  # fmt: skip
    assert [(chunk["first_row"], chunk["rows"]) for chunk in chunks(stack, batch)] == [
        (0, 3_000), (3_000, 3_000), (6_000, 3_000), (9_000, 1_000),
    ]  # fmt: skip
    predicted = as_table(output(stack, batch))
    assert predicted.column_names == ["id", "b", "probability", "label"]
    assert predicted.select(["id", "b"]).equals(batches.table(values).select(["id", "b"]))
    expected = direct(stack, values)
    assert np.array_equal(probabilities(predicted), expected)
    assert predicted["label"].to_pylist() == ["yes" if each > 0.5 else "no" for each in expected]
    assert stack.client.get(f"{batches.PATH}{batch}/errors/", headers=JSON).json() == {"results": [], "more": False}
    tidy(stack, batch)


def test_bad_rows_of_a_csv_file_are_null_and_told_and_all_others_predicted(stack: Stack) -> None:
    values = batches.rows(2_000)
    lines = [["a", "name", "b", "c"]]
    for number, (a, b, c) in enumerate(values.tolist()):
        lines.append([repr(a), f'=SUM("{number}"),\nx', "" if np.isnan(b) else repr(b), repr(c)])
    bad = {3: ("a", "much"), 499: ("c", "1000"), 500: ("a", ""), 1_999: ("c", "inf")}
    for row, (column, text) in bad.items():
        lines[row + 1][lines[0].index(column)] = text
    lines[1_000 + 1] = lines[1_000 + 1][:2]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    uri = upload(stack, "rows.csv", text.getvalue().encode())

    batch = begin(stack, uri, chunk_rows=500, keep_columns=["name"], output={"format": "csv"}, error_threshold=0.01)
    found = ended(stack, batch)
    assert (found["state"], found["rows_failed"]) == ("partial", 5)
    answer = stack.client.get(f"{batches.PATH}{batch}/errors/", headers={"Accept": "text/csv"})
    errors = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(int(error["row"]), error["column"]) for error in errors][:3] == [(3, "a"), (499, "c"), (500, "a")]
    assert [int(error["row"]) for error in errors][3:] == [1_000, 1_999]
    assert "much" in errors[0]["reason"] and "100" in errors[1]["reason"]

    predicted = list(csv.DictReader(io.StringIO(output(stack, batch).decode(), newline="")))
    failed = [*bad, 1_000]
    good = np.delete(np.arange(2_000), failed)
    assert [row["probability"] for row in np.array(predicted)[failed]] == [""] * 5
    got = np.array([predicted[row]["probability"] for row in good], np.float32)
    assert np.array_equal(got, direct(stack, values)[good])
    # What a spreadsheet would run is text.
    assert predicted[1]["name"] == "'" + lines[2][1]
    tidy(stack, batch)


def test_what_can_not_run_is_told_where_the_user_looks_and_nothing_is_written(stack: Stack, shared: Path) -> None:
    values = batches.rows(1_000)
    data = batches.table(values)
    place = shared / "taken.parquet"
    place.write_bytes(b"somebody's")
    good = upload(stack, "good.parquet", parquet(values))
    half = upload(stack, "half.parquet", parquet(values)[:-100])

    def saved(name: str, changed: Any) -> str:
        pq.write_table(changed, shared / name)
        return f"file://{shared / name}"

    wrong: list[tuple[str, dict[str, Any], str]] = [
        (saved("missing.parquet", data.drop_columns(["a"])), {}, "'a'"),
        (saved("renamed.parquet", data.rename_columns(["id", "c", "A", "b"])), {}, "'a'"),
        (good, {"keep_columns": ["no such"]}, "no such"),
        (half, {}, "half.parquet"),
        (f"file://{shared}/nothing.parquet", {}, "nothing.parquet"),
        (good, {"output": {"uri": f"file://{place}"}}, "taken.parquet"),
    ]
    started = [(begin(stack, uri, **fields), words) for uri, fields, words in wrong]
    for batch, words in started:
        found = ended(stack, batch)
        assert (found["state"], found["error"]["code"]) == ("failed", "bad-data"), found
        assert words in found["error"]["message"], found["error"]
        assert chunks(stack, batch) == []
        no_output(stack, batch)
    assert place.read_bytes() == b"somebody's"
    assert not list(shared.glob("*.tmp*"))

    body = {"model": "m", "input": {"uri": good}, "deadline": "2020-01-01T00:00:00Z"}
    refused = stack.client.post(batches.PATH, json=body)
    assert problem(refused) == (422, "invalid-input")
    assert refused.json()["errors"][0]["pointer"] == "/deadline"
    body = {"model": "m", "input": {"uri": "file:///etc/passwd"}}
    assert stack.client.post(batches.PATH, json=body).json()["errors"][0]["pointer"] == "/input/uri"


def test_too_many_errors_end_a_run_before_all_is_tried(stack: Stack) -> None:
    values = batches.rows(CHUNKS * CHUNK_ROWS)
    values[:300, 2] = 1_000
    uri = upload(stack, "bad.parquet", parquet(values, CHUNK_ROWS))
    with dawdling(stack):
        batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, error_threshold=0.1)
        found = ended(stack, batch)
    assert (found["state"], found["error"]["code"]) == ("failed", "too-many-errors")
    assert found["chunks"]["done"] < CHUNKS
    no_output(stack, batch)


def test_what_is_cancelled_leaves_no_output_and_goes_on_where_it_was(stack: Stack) -> None:
    values = batches.rows(CHUNKS * CHUNK_ROWS)
    uri = upload(stack, "rows.parquet", parquet(values, CHUNK_ROWS))
    with dawdling(stack):
        batch = begin(stack, uri, chunk_rows=CHUNK_ROWS)
        at_work(stack, batch, 3)
        assert stack.client.post(f"{batches.PATH}{batch}/cancel/").status_code == 202
        done = look(stack, batch)["chunks"]["done"]
        assert look(stack, batch)["state"] == "cancelled" and done < CHUNKS
        assert stack.client.post(f"{batches.PATH}{batch}/cancel/").status_code == 409
        time.sleep(1)
        assert look(stack, batch)["chunks"]["done"] == done
    no_output(stack, batch)
    # The parts stay for this: what is done isn't done again.
    answer = stack.client.post(f"{batches.PATH}{batch}/rerun/", json={"retry_policy": "partial"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["chunks"] == {"total": CHUNKS, "done": done}
    assert ended(stack, batch)["state"] == "succeeded"
    assert np.array_equal(probabilities(as_table(output(stack, batch))), direct(stack, values))
    tidy(stack, batch)


@embedded_only
def test_at_its_deadline_a_run_fails_after_it_was_said_to_be_at_risk(stack: Stack) -> None:
    uri = upload(stack, "rows.parquet", parquet(batches.rows(3 * CHUNKS * CHUNK_ROWS), CHUNK_ROWS))
    deadline = datetime.now(UTC) + timedelta(seconds=5)
    with dawdling(stack):
        batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, deadline=deadline.isoformat())
        wait_for(lambda: look(stack, batch)["at_risk"], 30, lambda: f"{look(stack, batch)}\n{stack.logs()}")
        assert look(stack, batch)["state"] == "running" and datetime.now(UTC) < deadline
        found = ended(stack, batch)
    assert (found["state"], found["error"]["code"]) == ("failed", "deadline-passed")
    assert datetime.fromisoformat(found["finished_at"]) - deadline < timedelta(seconds=5)
    no_output(stack, batch)


@full_only
def test_a_file_that_is_replaced_meanwhile_is_noticed_and_no_row_of_it_predicted(stack: Stack, shared: Path) -> None:
    data, other = shared / "replaced.parquet", shared / "other.tmp"
    place = shared / "of-replaced.parquet"
    values = batches.rows(CHUNKS * CHUNK_ROWS)

    def run(**fields: Any) -> dict[str, Any]:
        data.write_bytes(parquet(values, CHUNK_ROWS))
        with dawdling(stack):
            batch = begin(stack, f"file://{data}", chunk_rows=CHUNK_ROWS, **fields)
            at_work(stack, batch)
            other.write_bytes(parquet(batches.rows(CHUNKS * CHUNK_ROWS, seed=2), CHUNK_ROWS))
            other.rename(data)
        return ended(stack, batch)

    found = run(error_threshold=0, max_attempts=1, output={"uri": f"file://{place}"})
    assert (found["state"], found["error"]["code"]) == ("failed", "too-many-errors"), found
    assert "changed" in told(stack, found["id"])
    assert not place.exists()
    # Where rows may fail, these are what has failed.
    found = run(max_attempts=1)
    assert found["state"] == "partial" and found["rows_failed"] >= CHUNK_ROWS
    answer = stack.client.get(f"{batches.PATH}{found['id']}/errors/", headers={"Accept": "text/csv"})
    errors = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    failed = [int(error["row"]) for error in errors]
    assert len(failed) == found["rows_failed"]
    assert {"changed" in error["reason"] for error in errors} == {True}
    expected = direct(stack, values)
    expected[failed] = np.nan
    assert np.array_equal(probabilities(as_table(output(stack, found["id"]))), expected, equal_nan=True)


def test_online_jobs_beside_a_batch_are_all_answered(stack: Stack) -> None:
    values = batches.rows(400_000)
    values[0] = 0.5
    expected = direct(stack, values[:1])[0]
    body = {"inputs": [{"name": "t", "shape": [1, 3], "datatype": "FP32", "data": values[0].tolist()}]}
    answers: list[tuple[int, Any]] = []
    over = threading.Event()

    def ask() -> None:
        headers = {"Authorization": f"Bearer {stack.api_key}"}
        with httpx.Client(base_url=stack.url, headers=headers, timeout=60) as client:
            while not over.is_set():
                answer = client.post("/v2/models/m/infer", json=body)
                answers.append((answer.status_code, answer.json().get("outputs", [{}])[0].get("data")))

    uri = upload(stack, "rows.parquet", parquet(values, 10_000))
    askers = [threading.Thread(target=ask, daemon=True) for _ in range(2)]
    for asker in askers:
        asker.start()
    batch = begin(stack, uri, chunk_rows=10_000)
    try:
        found = ended(stack, batch)
    finally:
        over.set()
        for asker in askers:
            asker.join(60)
    assert found["state"] == "succeeded"
    assert len(answers) > 10
    assert {status for status, _ in answers} == {200}
    assert {np.float32(data[0]) for _, data in answers} == {expected}


def batch_command(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "manage.py", "batch", *arguments],
        cwd=ROOT, env=stack.environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@embedded_only
def test_a_terminal_is_told_by_the_exit_status_how_a_run_ended(stack: Stack, tmp_path: Path) -> None:
    values = batches.rows(1_000)
    for name, changed in (("good", values), ("bad", np.where(np.arange(3) == 2, np.float32(1_000), values))):
        (tmp_path / f"{name}.parquet").write_bytes(parquet(changed))
    some = values.copy()
    some[5, 2] = 1_000
    (tmp_path / "some.parquet").write_bytes(parquet(some))

    done = batch_command(stack, "run", "m", str(tmp_path / "good.parquet"), "--keep", "id", "--chunk-rows", "300")
    assert done.returncode == 0, done.stderr
    batch = done.stdout.split()[0]
    *_, last, told = done.stdout.splitlines()
    assert last.startswith(f"[{'#' * 30}] 100 %  succeeded")
    assert told == f"output store://batches/{batch}/output.parquet"
    assert np.array_equal(probabilities(as_table(output(stack, batch))), direct(stack, values))

    partly = batch_command(stack, "run", "m", str(tmp_path / "some.parquet"), "--format", "csv")
    assert (partly.returncode, "partial" in partly.stdout) == (0, True), partly.stderr
    failed = batch_command(stack, "run", "m", str(tmp_path / "bad.parquet"))
    assert failed.returncode == 1
    assert "None of 1,000 rows has a prediction" in failed.stderr and "Traceback" not in failed.stderr
    refused = batch_command(stack, "run", "m", str(tmp_path / "no.csv"))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "CommandError" in refused.stderr and "Traceback" not in refused.stderr

    again = batch_command(stack, "rerun", batch[:8], "--retry-policy", "all", "--detach")
    assert (again.returncode, again.stdout.strip()) == (0, batch)
    watched = batch_command(stack, "watch", batch)
    assert watched.returncode == 0 and "succeeded" in watched.stdout


# The policies, with a model that fails


@full_only
def test_partial_runs_only_what_failed_again(stack: Stack) -> None:
    values = poisoned(batches.rows(500), 250)
    uri = upload(stack, "rows.parquet", parquet(values, CHUNK_ROWS))
    fails(stack, 2)
    batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, retry_policy="partial")
    found = ended(stack, batch)
    assert (found["state"], found["attempts"], found["rows_failed"]) == ("succeeded", 1, 0), told(stack, batch)
    assert [chunk["attempt"] for chunk in chunks(stack, batch)] == [1, 1, 3, 1, 1]
    assert np.array_equal(probabilities(as_table(output(stack, batch))), direct(stack, values))
    assert told(stack, batch).count("told to fail") == 2

    # More often than it may: the chunk's rows have no prediction, and each is told of.
    fails(stack, 2)
    batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, retry_policy="partial", max_attempts=2, keep_columns=["id"])
    found = ended(stack, batch)
    assert (found["state"], found["rows_failed"]) == ("partial", CHUNK_ROWS)
    predicted = as_table(output(stack, batch))
    expected = direct(stack, values)
    expected[200:300] = np.nan
    assert predicted["id"].to_pylist() == list(range(500))
    assert np.array_equal(probabilities(predicted), expected, equal_nan=True)
    errors = stack.client.get(f"{batches.PATH}{batch}/errors/", headers=JSON).json()["results"]
    assert [error["row"] for error in errors] == list(range(200, 300))
    assert "told to fail" in errors[0]["reason"]
    # By hand, now that the model is well.
    answer = stack.client.post(f"{batches.PATH}{batch}/rerun/", json={"retry_policy": "partial"})
    assert answer.status_code == 202, answer.text
    assert ended(stack, batch)["state"] == "succeeded"
    assert np.array_equal(probabilities(as_table(output(stack, batch))), direct(stack, values))
    assert stack.client.get(f"{batches.PATH}{batch}/errors/", headers=JSON).json()["results"] == []
    tidy(stack, batch)


@full_only
def test_all_runs_everything_again(stack: Stack) -> None:
    values = poisoned(batches.rows(500), 250)
    uri = upload(stack, "rows.parquet", parquet(values, CHUNK_ROWS))
    fails(stack, 2)
    batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, retry_policy="all")
    found = ended(stack, batch)
    assert (found["state"], found["attempts"]) == ("succeeded", 3), told(stack, batch)
    assert np.array_equal(probabilities(as_table(output(stack, batch))), direct(stack, values))
    assert told(stack, batch).count("a chunk of the one before failed") == 2
    tidy(stack, batch)

    fails(stack, 2)
    batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, retry_policy="all", max_attempts=2)
    found = ended(stack, batch)
    assert (found["state"], found["attempts"], found["error"]["code"]) == ("failed", 2, "chunk-failed")
    no_output(stack, batch)


@full_only
def test_none_hands_what_failed_to_the_schedules_next_run(stack: Stack, shared: Path) -> None:
    values = poisoned(batches.rows(500), 250)
    data = shared / "nightly.parquet"
    data.write_bytes(parquet(values, CHUNK_ROWS))
    batch = {
        "model": "m", "input": {"uri": f"file://{data}"}, "chunk_rows": CHUNK_ROWS, "retry_policy": "none",
        "keep_columns": ["id"],
    }  # fmt: skip
    answer = stack.client.post("/api/schedules/", json={"name": "nightly", "every_seconds": 86_400, "batch": batch})
    assert answer.status_code == 201, answer.text
    schedule = f"/api/schedules/{answer.json()['id']}/"

    def run() -> str:
        made = stack.client.post(f"{schedule}run-now/", json={})
        assert (made.status_code, made.json()["outcome"]) == (202, "made"), made.text
        return str(made.json()["batch"])

    fails(stack, 1)
    first = run()
    found = ended(stack, first)
    assert (found["state"], found["rows_failed"], found["attempts"]) == ("partial", CHUNK_ROWS, 1), told(stack, first)
    assert [chunk["attempt"] for chunk in chunks(stack, first)] == [1] * 5
    second = run()
    found = ended(stack, second)
    assert (found["state"], found["rows_total"]) == ("succeeded", 500 + CHUNK_ROWS), told(stack, second)
    assert (found["carried"]["from"], found["carried"]["rows"]) == (first, CHUNK_ROWS)
    predicted = as_table(output(stack, second))
    assert predicted["id"].to_pylist() == [*range(500), *range(200, 300)]
    expected = direct(stack, values)
    assert np.array_equal(probabilities(predicted), np.append(expected, expected[200:300]))
    third = run()
    assert ended(stack, third)["carried"] is None
    assert stack.client.delete(schedule).status_code == 204


@full_only
def test_a_chunk_that_kills_its_workers_is_given_up_and_tried_again_as_the_policy_says(stack: Stack) -> None:
    values = batches.rows(500)
    values[250, 0] = DEADLY
    uri = upload(stack, "rows.parquet", parquet(values, CHUNK_ROWS))
    batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, retry_policy="partial")
    found = ended(stack, batch)
    assert found["state"] == "succeeded", told(stack, batch)
    assert [chunk["attempt"] for chunk in chunks(stack, batch)] == [1, 1, 2, 1, 1]
    assert "worker-lost" in told(stack, batch)
    assert np.array_equal(probabilities(as_table(output(stack, batch))), direct(stack, values))
    # Once it was tried again it is no business of the operators any more.
    assert stack.client.get("/api/dead-letters/").json()["results"] == []


# Kills


def kill_while_it_runs(stack: Stack, batch: str, chunks_between: int, choose: Callable[[], psutil.Process]) -> int:
    """SIGKILL whoever `choose` names whenever so many chunks more are done. Returns how often."""
    kills = done = 0
    end = time.monotonic() + 180
    while (found := look(stack, batch))["state"] not in batches.FINAL and time.monotonic() < end:
        if found["chunks"]["done"] >= done + chunks_between:
            choose().kill()
            kills, done = kills + 1, found["chunks"]["done"]
        time.sleep(0.05)
    return kills


@pytest.fixture(scope="module")
def undisturbed(stack: Stack) -> tuple[str, np.ndarray, str]:
    """A file of twenty chunks, its rows, and the sum of the output of a run in which nothing went wrong."""
    values = batches.rows(CHUNKS * CHUNK_ROWS, seed=3)
    uri = upload(stack, "rows.parquet", parquet(values, CHUNK_ROWS))
    batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, keep_columns=["id"])
    found = ended(stack, batch)
    assert np.array_equal(probabilities(as_table(output(stack, batch))), direct(stack, values))
    return uri, values, found["receipt"]["output"]["sha256"]


@full_only
def test_workers_that_are_killed_all_the_time_change_no_bit(
    stack: Stack, undisturbed: tuple[str, np.ndarray, str]
) -> None:
    uri, _, sha256 = undisturbed
    turn = itertools.cycle(["child", "parent"])

    def choose() -> psutil.Process:
        everyone = stack.processes("celery", "batch@")
        parents = {process.ppid() for process in everyone}
        wanted = next(turn)
        return next(process for process in everyone if (process.pid in parents) == (wanted == "parent"))

    with dawdling(stack):
        batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, keep_columns=["id"])
        kills = kill_while_it_runs(stack, batch, 3, choose)
    found = ended(stack, batch)
    assert kills >= 3
    assert (found["state"], found["rows_done"], found["chunks"]["done"]) == (
        "succeeded", CHUNKS * CHUNK_ROWS, CHUNKS,
    ), told(stack, batch)  # fmt: skip
    assert found["receipt"]["output"]["sha256"] == sha256
    output(stack, batch)
    tidy(stack, batch)


@full_only
def test_dispatchers_and_recorders_that_are_killed_change_no_bit(
    stack: Stack, undisturbed: tuple[str, np.ndarray, str]
) -> None:
    uri, _, sha256 = undisturbed
    turn = itertools.cycle([("manage.py", "dispatch"), ("celery", "recorder@")])
    with dawdling(stack):
        batch = begin(stack, uri, chunk_rows=CHUNK_ROWS, keep_columns=["id"])
        kills = kill_while_it_runs(stack, batch, 6, lambda: stack.processes(*next(turn))[0])
    found = ended(stack, batch)
    assert kills >= 2
    assert (found["state"], found["rows_done"]) == ("succeeded", CHUNKS * CHUNK_ROWS), told(stack, batch)
    assert found["receipt"]["output"]["sha256"] == sha256
    assert left(stack, batch, "*.tmp*") == []
    tidy(stack, batch)
