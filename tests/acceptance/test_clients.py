"""Clients as other people have them, against both stacks: pollers, an EventSource reader, curl, table formats."""

import csv
import gzip
import http.client
import io
import json
import socket
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.conf import settings
from httpx_sse import ServerSentEvent, connect_sse

from tests.acceptance.test_main_path import MODELS, data, direct
from tests.acceptance.test_tritonclient import labels
from tests.chaos.brake import stopped
from tests.stack import Stack, wait_for

CSV, PARQUET = "text/csv", "application/vnd.apache.parquet"
ARROW, NPY = "application/vnd.apache.arrow.stream", "application/x-npy"
JSON = "application/json"


def write_csv(rows: np.ndarray, names: list[str]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows(rows.tolist())
    return text.getvalue().encode()


def write_parquet(rows: np.ndarray, names: list[str]) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(zip(names, rows.T, strict=True))), sink)
    return sink.getvalue().to_pybytes()


def write_arrow(rows: np.ndarray, names: list[str]) -> bytes:
    table = pa.table(dict(zip(names, rows.T, strict=True)))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table, max_chunksize=4)
    return sink.getvalue().to_pybytes()


def write_npy(rows: np.ndarray, names: list[str]) -> bytes:
    file = io.BytesIO()
    np.save(file, rows)
    return file.getvalue()


def write_json(rows: np.ndarray, names: list[str]) -> bytes:
    return json.dumps({"instances": rows.tolist()}).encode()


def read_csv(body: bytes) -> tuple[np.ndarray, list[str]]:
    (_, *rows) = csv.reader(io.StringIO(body.decode()))
    return np.array([row[:-1] for row in rows], np.float32), [row[-1] for row in rows]


def read_table(table: pa.Table) -> tuple[np.ndarray, list[str]]:
    label = table.column("label").to_pylist()
    return np.array(table.drop_columns("label").to_pydict()["probability"], np.float32), label


def read_npy(body: bytes) -> tuple[np.ndarray, list[str]]:
    array = np.load(io.BytesIO(body), allow_pickle=False)
    return array["probability"], array["label"].tolist()


def read_json(body: bytes) -> tuple[np.ndarray, list[str]]:
    predictions = json.loads(body)["predictions"]
    return np.array([p["probability"] for p in predictions], np.float32), [p["label"] for p in predictions]


WRITERS: dict[str, Callable[[np.ndarray, list[str]], bytes]] = {
    CSV: write_csv,
    PARQUET: write_parquet,
    ARROW: write_arrow,
    NPY: write_npy,
    JSON: write_json,
}
READERS: dict[str, Callable[[bytes], tuple[np.ndarray, list[str]]]] = {
    CSV: read_csv,
    PARQUET: lambda body: read_table(pq.read_table(io.BytesIO(body))),
    ARROW: lambda body: read_table(pa.ipc.open_stream(body).read_all()),
    NPY: read_npy,
    JSON: read_json,
}


@pytest.mark.parametrize("model", MODELS)
def test_each_table_format_is_answered_in_each_of_them_with_the_models_own_prediction(
    stack: Stack, store: Path, model: str
) -> None:
    rows, names = data(model, 11)
    expected = direct(store, model, rows)
    for sent, write in WRITERS.items():
        for accepted, read in READERS.items():
            headers = {"Content-Type": sent, "Accept": accepted}
            answer = stack.client.post(f"/v2/models/{model}/infer", content=write(rows, names), headers=headers)
            assert answer.status_code == 200, answer.text
            assert answer.headers["Content-Type"].partition(";")[0] == accepted
            probability, label = read(answer.content)
            assert np.array_equal(probability.reshape(expected.shape), expected), (sent, accepted)
            assert label == labels(model, expected)
            path = f"/result/{model}/{answer.headers['X-Inference-Id']}"
            assert stack.client.get(path, headers={"Accept": accepted}).content == answer.content
        answer = stack.client.post(
            f"/v2/models/{model}/infer", content=write(rows, names), headers={"Content-Type": sent}
        )
        assert answer.headers["Content-Type"].partition(";")[0] == sent


@pytest.mark.parametrize(
    ("coding", "pack"),
    [
        ("gzip", gzip.compress),
        ("deflate", zlib.compress),
        ("zstd", lambda body: pa.compress(body, codec="zstd", asbytes=True)),
    ],
)
def test_curl_sends_packed_csv_and_takes_what_comes(
    stack: Stack, store: Path, tmp_path: Path, coding: str, pack: Callable[[bytes], bytes]
) -> None:
    rows, names = data("wine", 20)
    expected = direct(store, "wine", rows)
    sent, received = tmp_path / "rows.csv.packed", tmp_path / "predictions.csv"
    sent.write_bytes(pack(write_csv(rows, names)))
    command = [
        *("curl", "-sS", "--compressed", "--fail", "--output", str(received), "--write-out", "%{http_code}"),
        *("-H", f"Authorization: Bearer {stack.api_key}", "-H", f"Content-Encoding: {coding}"),
        *("-H", f"Content-Type: {CSV}", "--data-binary", f"@{sent}", f"{stack.url}/v2/models/wine/infer"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "200"), done.stderr
    probability, label = read_csv(received.read_bytes())
    assert np.array_equal(probability, expected)
    assert label == labels("wine", expected)


def test_a_client_that_follows_only_location_comes_to_the_result(stack: Stack, store: Path) -> None:
    rows, _ = data("wine", 2)
    with stopped(stack):
        answer = stack.infer("wine", {"instances": rows.tolist()}, Prefer="respond-async")
        answer = look_later(stack, answer, answer.headers["Location"])
        assert answer.status_code == 202
    while answer.status_code == 202:
        answer = look_later(stack, answer, answer.headers["Location"])
    assert answer.status_code == 200
    assert np.array_equal(read_json(answer.content)[0], direct(store, "wine", rows))


def test_a_client_that_follows_only_the_paths_in_the_body_comes_to_the_result(stack: Stack, store: Path) -> None:
    rows, _ = data("breast_cancer", 2)
    with stopped(stack):
        accepted = stack.infer("breast_cancer", {"instances": rows.tolist()}, Prefer="respond-async")
        paths = accepted.json()
        status = look_later(stack, accepted, paths["StatusPath"]).json()
        assert status["Status"] in ("Queue", "Inference")
        assert stack.client.get(paths["ResultPath"]).status_code == 202
    while status["Status"] != "Completed":
        status = look_later(stack, accepted, paths["StatusPath"]).json()
    assert (status["Id"], status["Error"]) == (paths["Id"], None)
    result = stack.client.get(paths["ResultPath"])
    assert np.array_equal(read_json(result.content)[0], direct(store, "breast_cancer", rows))


def look_later(stack: Stack, told: httpx.Response, path: str) -> httpx.Response:
    """Ask again, but not before one was told to."""
    seconds = int(told.headers["Retry-After"])
    assert seconds >= 1
    time.sleep(seconds)
    return stack.client.get(path)


def test_an_event_source_sees_each_change_up_to_the_end_and_is_then_told_to_stay_away(stack: Stack) -> None:
    rows, _ = data("wine", 1)
    with stopped(stack):
        path = events_path(stack.infer("wine", {"instances": rows.tolist()}, Prefer="respond-async"))
        stream = events(stack, path)
        seen = [next(stream)]
    seen += stream
    states = [json.loads(event.data)["State"] for event in seen]
    assert states in (["queued", "succeeded"], ["queued", "running", "succeeded"])
    # What was missed during a broken connection, and no more.
    missed = list(events(stack, path, seen[0].id))
    assert [event.id for event in missed] == [seen[-1].id]
    again = stack.client.get(path, headers={"Last-Event-ID": seen[-1].id})
    assert (again.status_code, again.content) == (204, b"")


def test_asking_for_the_headers_of_a_stream_takes_no_place(stack: Stack) -> None:
    rows, _ = data("wine", 1)
    with stopped(stack):
        path = events_path(stack.infer("wine", {"instances": rows.tolist()}, Prefer="respond-async"))
        begun = time.monotonic()
        for _ in range(settings.MAX_EVENT_STREAMS + 2):
            answer = stack.client.head(path)
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream")
        assert time.monotonic() - begun < 20
        assert next(events(stack, path)).data


def test_preferences_in_several_lines_count_together(stack: Stack) -> None:
    rows, _ = data("wine", 1)
    for lines in (["respond-async", "wait=20"], ["wait=20", "handling=lenient", "respond-async"]):
        headers = [("Prefer", line) for line in lines]
        answer = stack.client.post("/v2/models/wine/infer", json={"instances": rows.tolist()}, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.headers["Preference-Applied"] == "respond-async, wait=20"


def events_path(accepted: httpx.Response) -> str:
    return f"/api/jobs/{accepted.json()['Id']}/events/"


def events(stack: Stack, path: str, last: str = "") -> Iterator[ServerSentEvent]:
    """Read a stream to its end."""
    headers = {"Last-Event-ID": last} if last else {}
    with connect_sse(stack.client, "GET", path, headers=headers) as source:
        yield from (event for event in source.iter_sse() if event.data)


def test_a_repeat_after_a_broken_connection_joins_the_job_that_the_first_one_became(stack: Stack, store: Path) -> None:
    rows, names = data("wine", 1)
    path, body = "/v2/models/wine/infer", write_json(rows, names)
    headers = {"Idempotency-Key": str(uuid4()), "Content-Type": JSON}

    def newest() -> str:
        found: str = stack.client.get("/api/jobs/", params={"page_size": 1}).json()["results"][0]["id"]
        return found

    stack.infer("wine", {"instances": rows.tolist()})
    before = newest()
    with stopped(stack):
        connection = http.client.HTTPConnection("127.0.0.1", stack.port)
        connection.request("POST", path, body, headers | {"Authorization": f"Bearer {stack.api_key}"})
        wait_for(lambda: newest() != before, 20, stack.logs)
        first = newest()
        connection.close()
    for _ in range(2):
        answer = stack.client.post(path, content=body, headers=headers)
        assert (answer.status_code, answer.headers["X-Inference-Id"]) == (200, first)
        assert np.array_equal(read_json(answer.content)[0], direct(store, "wine", rows))
    assert newest() == first


def test_a_request_that_breaks_off_becomes_no_job_and_leaves_its_key_free(stack: Stack) -> None:
    rows, names = data("wine", 1)
    body = write_json(rows, names)
    headers = {"Idempotency-Key": str(uuid4()), "Content-Type": JSON}
    with socket.create_connection(("127.0.0.1", stack.port)) as broken:
        sent = headers | {"Host": "localhost", "Authorization": f"Bearer {stack.api_key}", "Content-Length": len(body)}
        lines = "".join(f"{name}: {value}\r\n" for name, value in sent.items())
        broken.sendall(f"POST /v2/models/wine/infer HTTP/1.1\r\n{lines}\r\n".encode() + body[:-10])
    # Another body: it would be a mismatch if the key were taken.
    answer = stack.client.post("/v2/models/wine/infer", content=body + b" ", headers=headers)
    assert answer.status_code == 200, answer.text
    assert "Traceback" not in (stack.folder / "logs" / "portal.log").read_text()
