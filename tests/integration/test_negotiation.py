"""Each wire format in and out, chosen by Content-Type and Accept; compressed bodies. Predictions are the model's."""

import csv
import gzip
import io
import json
import struct
import zlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost
from django.test import Client, override_settings

from inference_portal.jobs.models import Job
from inference_portal.store import model_store
from tests.integration.http import ASYNC, BODY, INFER, JOB, JOBS, ROW, post, problem
from tests.integration.work import at_work, work

pytestmark = pytest.mark.django_db
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
BINARY, NPY, CSV, PLAIN = "application/octet-stream", "application/x-npy", "text/csv", "application/json"
LENGTH = "Inference-Header-Content-Length"
TYPES = (PLAIN, BINARY, CSV, PARQUET, ARROW, NPY)
MATRIX = np.array([ROW, [*ROW[:-1], 400.0], [12.0, *ROW[1:]]], "<f4")
ROWS = MATRIX.tolist()
Floats = npt.NDArray[np.float32]


def names() -> list[str]:
    return [column.name for column in model_store().get("wine", "1").manifest.columns]


@pytest.fixture(scope="module")
def expected() -> Floats:
    """What the model says when it is called directly."""
    booster = xgboost.Booster(model_file=str(model_store().get("wine", "1").folder / "model.ubj"))
    result: Floats = booster.inplace_predict(MATRIX, strict_shape=True)
    return result


# The same three wines as a body of each kind: Content-Type, body, length of the JSON part.
Sent = tuple[str, bytes, int | None]


def tensor(**fields: Any) -> dict[str, Any]:
    return {"name": "t", "shape": list(MATRIX.shape), "datatype": "FP32", **fields}


def binary(**fields: Any) -> Sent:
    described = {"inputs": [tensor(parameters={"binary_data_size": MATRIX.nbytes})], **fields}
    head = json.dumps(described).encode()
    return BINARY, head + MATRIX.tobytes(), len(head)


def table() -> pa.Table:
    # In another order than the model's: columns are found by their names.
    return pa.table({name: MATRIX[:, i] for i, name in reversed(list(enumerate(names())))})


def as_csv() -> Sent:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(reversed(names()))
    writer.writerows(row[::-1] for row in ROWS)
    return CSV, text.getvalue().encode(), None


def as_parquet() -> Sent:
    sink = io.BytesIO()
    pq.write_table(table(), sink)
    return PARQUET, sink.getvalue(), None


def as_arrow() -> Sent:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table().schema) as writer:
        writer.write_table(table())
    return ARROW, sink.getvalue(), None


def as_npy() -> Sent:
    sink = io.BytesIO()
    np.save(sink, MATRIX)
    return NPY, sink.getvalue(), None


def as_json(body: Any) -> Sent:
    return PLAIN, json.dumps(body).encode(), None


BODIES: dict[str, Callable[[], Sent]] = {
    "instances": lambda: as_json({"instances": ROWS}),
    "records": lambda: as_json({"instances": [dict(reversed(list(zip(names(), row, strict=True)))) for row in ROWS]}),
    "v2": lambda: as_json({"inputs": [tensor(data=MATRIX.ravel().tolist())]}),
    "v2 by column": lambda: as_json(
        {
            "inputs": [
                {"name": name, "shape": [3], "datatype": "FP32", "data": MATRIX[:, i].tolist()}
                for i, name in reversed(list(enumerate(names())))
            ]
        }
    ),
    "v2 without a type": lambda: ("", as_json({"inputs": [tensor(data=ROWS)]})[1], None),
    "v2 binary": lambda: binary(parameters={"binary_data_output": True}),
    "csv": as_csv,
    "parquet": as_parquet,
    "arrow": as_arrow,
    "npy": as_npy,
}
# What answers each by default.
DEFAULTS = {"v2 binary": BINARY, "csv": CSV, "parquet": PARQUET, "arrow": ARROW, "npy": NPY}


def ask(sender: Client, body: Sent, **headers: Any) -> Any:
    kind, data, length = body
    if length is not None:
        headers[LENGTH] = str(length)
    return post(sender, INFER, data, content_type=kind, **headers)


def submit(sender: Client, body: Sent, **headers: Any) -> str:
    answer = ask(sender, body, **ASYNC, **headers)
    assert answer.status_code == 202, answer.content
    return str(answer.json()["Id"])


# The outputs of an answer: their names, and their rows.
Outputs = dict[str, list[Any]]


def read_tensor(output: dict[str, Any], raw: bytes = b"") -> list[Any]:
    """Return the rows of a V2 output, whose data are in it or in these bytes."""
    data = output.get("data")
    if data is None:
        data = np.frombuffer(raw, "<f4").tolist() if output["datatype"] == "FP32" else read_texts(raw)
    width = output["shape"][1] if len(output["shape"]) == 2 else None
    return data if width is None else [data[i : i + width] for i in range(0, len(data), width)]


def read_texts(raw: bytes) -> list[str]:
    texts, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        texts.append(raw[at + 4 : at + 4 + length].decode())
        at += 4 + length
    return texts


def read_v2(head: dict[str, Any], raw: bytes = b"") -> Outputs:
    found: Outputs = {}
    for output in head["outputs"]:
        size = output.get("parameters", {}).get("binary_data_size", 0)
        assert ("data" in output) is (size == 0)
        found[output["name"]] = read_tensor(output, raw[:size])
        raw = raw[size:]
    assert raw == b""
    return found


def read_csv(body: bytes) -> Outputs:
    header, *lines = csv.reader(io.StringIO(body.decode()))
    assert header == ["probability_0", "probability_1", "probability_2", "label"]
    return {"probability": [[float(cell) for cell in line[:3]] for line in lines], "label": [line[3] for line in lines]}


def outputs(answer: Any) -> Outputs:
    """Read an answer by its own Content-Type alone."""
    kind = answer["Content-Type"].partition(";")[0]
    body: bytes = answer.content
    if kind == BINARY:
        length = int(answer[LENGTH])
        return read_v2(json.loads(body[:length]), body[length:])
    assert LENGTH not in answer
    if kind == CSV:
        return read_csv(body)
    if kind == PARQUET:
        return dict(pq.read_table(io.BytesIO(body)).to_pydict())
    if kind == ARROW:
        return dict(pa.ipc.open_stream(body).read_all().to_pydict())
    if kind == NPY:
        array = np.load(io.BytesIO(body), allow_pickle=False)
        return {name: array[name].tolist() for name in array.dtype.names}
    data = json.loads(body)
    if "outputs" in data:
        return read_v2(data)
    return {name: [row[name] for row in data["predictions"]] for name in data["predictions"][0]}


def check(answer: Any, expected: Floats, *, names: tuple[str, ...] = ("probability", "label")) -> None:
    """Check that the answer's outputs are these, and what the model itself says."""
    found = outputs(answer)
    assert tuple(found) == names
    np.testing.assert_array_equal(np.array(found["probability"], np.float32), expected)
    if "label" in names:
        assert found["label"] == [f"class_{i}" for i in expected.argmax(axis=1)]


# In and out


@pytest.mark.parametrize("kind", BODIES)
def test_every_format_is_read_and_answered_in_kind(submitter: Client, kind: str, expected: Floats) -> None:
    job_id = submit(submitter, BODIES[kind]())
    assert np.array_equal(np.frombuffer(bytes(Job.objects.get().input), "<f4").reshape(MATRIX.shape), MATRIX)
    assert work() == 1
    for path in (f"/result/wine/{job_id}", f"/api/jobs/{job_id}/result/"):
        answer = submitter.get(path)
        assert answer.status_code == 200
        assert answer["Content-Type"].partition(";")[0] == DEFAULTS.get(kind, PLAIN)
        check(answer, expected)
    is_v2 = kind.startswith("v2") and kind != "v2 binary"
    assert (b"model_name" in answer.content) is (is_v2 or kind == "v2 binary")
    assert (b'"predictions"' in answer.content) is (kind in ("instances", "records"))


@pytest.mark.parametrize("accept", TYPES)
@pytest.mark.parametrize("kind", ["instances", "v2", "v2 binary", "csv", "arrow"])
def test_a_result_can_be_had_in_another_format_than_its_request(
    submitter: Client, kind: str, accept: str, expected: Floats
) -> None:
    job_id = submit(submitter, BODIES[kind](), Accept="text/csv")
    assert work() == 1
    answer = submitter.get(f"/result/wine/{job_id}", headers={"Accept": accept})
    assert answer["Content-Type"].partition(";")[0] == accept
    check(answer, expected)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("accept", TYPES)
def test_an_answer_on_the_connection_is_as_its_result(submitter: Client, accept: str, expected: Floats) -> None:
    with at_work():
        answer = ask(submitter, BODIES["csv"](), Accept=accept)
    assert answer.status_code == 200, answer.content
    assert answer["Content-Type"].partition(";")[0] == accept
    check(answer, expected)
    kept = submitter.get(f"/result/wine/{answer['X-Inference-Id']}", headers={"Accept": accept})
    assert (kept.content, kept["Content-Type"]) == (answer.content, answer["Content-Type"])


# V2's binary tensors


@pytest.mark.parametrize(
    ("fields", "is_binary"),
    [
        ({}, False),
        ({"parameters": {"binary_data_output": True}}, True),
        ({"parameters": {"binary_data_output": False}}, False),
        ({"outputs": [{"name": "probability", "parameters": {"binary_data": True}}]}, True),
        ({"outputs": [{"name": "probability", "parameters": {"binary_data": False}}]}, False),
        ({"outputs": [{"name": "probability"}], "parameters": {"binary_data_output": True}}, True),
        (
            {
                "outputs": [{"name": "probability", "parameters": {"binary_data": False}}],
                "parameters": {"binary_data_output": True},
            },
            False,
        ),
        ({"outputs": [], "parameters": {"binary_data_output": True}}, True),
    ],
)
@pytest.mark.parametrize("sent", ["json", "binary"])
def test_a_v2_request_says_which_outputs_it_wants_as_bytes(
    submitter: Client, sent: str, fields: dict[str, Any], is_binary: bool, expected: Floats
) -> None:
    body = binary(**fields, id="mine") if sent == "binary" else as_json({"inputs": [tensor(data=ROWS)], "id": "mine", **fields})  # fmt: skip  # noqa: E501
    job_id = submit(submitter, body)
    assert work() == 1
    answer = submitter.get(f"/result/wine/{job_id}")
    assert answer["Content-Type"] == (BINARY if is_binary else PLAIN)
    check(answer, expected, names=("probability",) if fields.get("outputs") else ("probability", "label"))
    head = json.loads(answer.content[: int(answer[LENGTH])] if is_binary else answer.content)
    assert (head["id"], head["model_name"], head["model_version"]) == ("mine", "wine", "1")


@pytest.mark.parametrize("length", ["x", "-1", "", "1.5", "999999", "10", "9" * 30])
def test_a_length_of_the_json_that_is_wrong_is_refused(submitter: Client, length: str) -> None:
    kind, data, _ = binary()
    problem(post(submitter, INFER, data, content_type=kind, **{LENGTH: length}), 400, "malformed")
    assert not Job.objects.exists()


def test_bytes_without_the_length_of_their_json_are_refused(submitter: Client) -> None:
    kind, data, _ = binary()
    problem(post(submitter, INFER, data, content_type=kind), 400, "malformed")
    only_head = json.dumps({"inputs": [tensor(parameters={"binary_data_size": 156})]})
    found = problem(post(submitter, INFER, only_head), 422, "invalid-input")
    assert found["errors"][0]["pointer"] == "/inputs/0/parameters/binary_data_size"
    problem(post(submitter, INFER, as_csv()[1], content_type=CSV, **{LENGTH: "5"}), 400, "malformed")


def test_one_output_as_bytes_and_one_as_json(submitter: Client, expected: Floats) -> None:
    wanted = [{"name": "label", "parameters": {"binary_data": True}}, {"name": "probability"}]
    job_id = submit(submitter, binary(outputs=wanted))
    assert work() == 1
    answer = submitter.get(f"/result/wine/{job_id}")
    check(answer, expected, names=("label", "probability"))
    head = json.loads(answer.content[: int(answer[LENGTH])])
    assert ["data" in output for output in head["outputs"]] == [False, True]


# Accept


@pytest.mark.parametrize(
    ("accept", "expected_type"),
    [
        ("", CSV), ("*/*", CSV), ("text/*", CSV), ("*/*, application/json", PLAIN),
        ("application/*", PLAIN), ("application/x-npy, application/json;q=0.5", NPY),
        ("application/x-npy;q=0.5, application/json", PLAIN), ("application/x-npy;q=0, */*;q=0.1", CSV),
        ("text/html, application/xhtml+xml, */*;q=0.8", CSV), ("application/json, text/csv", PLAIN),
        ("text/csv;q=0, */*", PLAIN), ("text/*;q=0, application/json;q=0, */*;q=0.3", BINARY),
        ("text/*;q=0, text/csv;q=0.1", CSV),
        ("text/csv;q=0.2, application/json;q=0.2", CSV), ("text/html, application/vnd.apache.parquet;q=0.01", PARQUET),
        ("TEXT/CSV", CSV), ("application/json; charset=utf-8", PLAIN), ("application/json;q=0.4;x=y, */*;q=0.5", CSV),
    ],
)  # fmt: skip
def test_the_client_gets_what_it_likes_best_and_by_a_wildcard_its_own_kind(
    submitter: Client, accept: str, expected_type: str
) -> None:
    job_id = submit(submitter, as_csv())
    assert work() == 1
    headers = {"Accept": accept} if accept else {}
    answer = submitter.get(f"/result/wine/{job_id}", headers=headers)
    assert answer.status_code == 200
    assert answer["Content-Type"].partition(";")[0] == expected_type


@pytest.mark.parametrize(
    "accept", ["text/html", "image/*", "application/json;q=0", "*/*;q=0", "text/csv;q=0, text/*;q=0"]
)
def test_a_result_that_nobody_takes_is_406_before_anything_is_stored(submitter: Client, accept: str) -> None:
    for prefer in ("", "wait=5", "respond-async, wait=5"):
        found = problem(ask(submitter, as_csv(), Accept=accept, Prefer=prefer), 406, "not-acceptable")
        for kind in TYPES:
            assert kind in found["detail"]
    assert not Job.objects.exists()
    # What isn't answered with a result isn't about its type.
    job_id = submit(submitter, as_csv(), Accept=accept)
    assert ask(submitter, as_csv(), Accept=accept, Prefer="respond-async-proxy").status_code == 202
    assert submitter.get(f"/result/wine/{job_id}", headers={"Accept": accept}).status_code == 202
    assert work() == 2
    problem(submitter.get(f"/result/wine/{job_id}", headers={"Accept": accept}), 406, "not-acceptable")


@pytest.mark.parametrize("accept", TYPES)
def test_a_problem_is_a_problem_whatever_is_accepted(submitter: Client, accept: str) -> None:
    for answer in (
        ask(submitter, (CSV, b"alcohol\n1", None), Accept=accept),
        submitter.get("/result/wine/x", headers={"Accept": accept}),
        submitter.get("/api/jobs/x/", headers={"Accept": accept}),
    ):
        assert answer.status_code in (404, 422)
        assert answer["Content-Type"] == "application/problem+json"


# Content-Encoding


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def zstd(data: bytes) -> bytes:
    packed: bytes = pa.compress(data, codec="zstd", asbytes=True)
    return packed


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZIP", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", deflated),
    "zstd": ("zstd", zstd),
    "identity": ("identity", bytes),
    "two": ("gzip, zstd", lambda data: zstd(gzip.compress(data))),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_compressed_body_is_the_body(submitter: Client, coding: str) -> None:
    header, pack = CODINGS[coding]
    for kind in ("instances", "v2 binary", "parquet"):
        sent, data, length = BODIES[kind]()
        job_id = submit(submitter, (sent, pack(data), length), **{"Content-Encoding": header})
        stored = bytes(Job.objects.get(id=UUID(job_id)).input)
        assert np.array_equal(np.frombuffer(stored, "<f4").reshape(MATRIX.shape), MATRIX)
    answer = post(submitter, JOBS, pack(json.dumps(JOB).encode()), **{"Content-Encoding": header})
    assert answer.status_code == 202, answer.content
    many = post(submitter, f"{JOBS}bulk/", pack(json.dumps({"jobs": [JOB]}).encode()), **{"Content-Encoding": header})
    assert many.json()["results"][0]["status"] == 202


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, br", "nonsense", "gzip;q=1", "\xff"])
def test_a_coding_that_is_not_read_is_415_and_those_are_named_that_are(submitter: Client, coding: str) -> None:
    for path, body in ((INFER, BODY), (JOBS, JOB)):
        packed = gzip.compress(json.dumps(body).encode())
        detail = problem(post(submitter, path, packed, **{"Content-Encoding": coding}), 415, "unsupported-media-type")["detail"]  # fmt: skip  # noqa: E501
        assert "gzip, deflate, zstd" in detail
    assert not Job.objects.exists()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "raw deflate", "zstd", "two"])
def test_a_bomb_is_413(submitter: Client, coding: str) -> None:
    header, pack = CODINGS[coding]
    bomb = pack(b" " * 3_000_000)
    assert len(bomb) < 100_000
    with override_settings(MAX_REQUEST_BYTES=1_000_000):
        for path in (INFER, JOBS, f"{JOBS}bulk/"):
            problem(post(submitter, path, bomb, **{"Content-Encoding": header}), 413, "too-large")
    assert not Job.objects.exists()


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_body_that_is_not_what_its_coding_says_is_400(submitter: Client, coding: str) -> None:
    whole = CODINGS[coding][1](json.dumps(BODY).encode())
    for broken in (b"", json.dumps(BODY).encode(), whole[:-5], whole[:3]):
        problem(post(submitter, INFER, broken, **{"Content-Encoding": coding}), 400, "malformed")
    assert not Job.objects.exists()
