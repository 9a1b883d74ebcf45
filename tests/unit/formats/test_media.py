"""The table of media types: what reads a body, what writes an answer, and that answers are exact in every format."""

import csv
import io
import json
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.builders import OUTPUTS, release
from tests.unit.formats.bodies import ARROW, BINARY, LIMITS, NPY, PARQUET, as_npy, as_parquet, as_stream
from workers.formats import Decoded, UnknownType, media
from workers.formats.answer import Answer
from workers.formats.media import Sent
from workers.outputs import encode_tensors, named_outputs
from workers.template.output import Output

MODEL = release(columns=[{"name": "x", "missing": True}, {"name": "y", "missing": True}])
single = st.floats(width=32, allow_nan=False, allow_infinity=False)


def answer(raw: np.ndarray[Any, Any], kind: str = "three", form: str = "v2", **reply: Any) -> Answer:
    output = Output.model_validate(OUTPUTS[kind])
    tensors = encode_tensors(output.tensors, named_outputs(output, raw), slice(0, len(raw)))
    return Answer.of({"format": form} | reply, model="m", version="1", job_id="job", outputs=tensors.encode())


def read(media_type: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    """Return the outputs of an answer as arrays of rows, whatever its format."""
    if media_type == BINARY:
        length = int(headers["Inference-Header-Content-Length"])
        return read_binary(json.loads(body[:length])["outputs"], body[length:])
    if media_type == media.JSON:
        return {t["name"]: np.array(t["data"]).reshape(t["shape"]) for t in json.loads(body)["outputs"]}
    if media_type == NPY:
        array = np.load(io.BytesIO(body), allow_pickle=False)
        return {"value": array} if array.dtype.names is None else {name: array[name] for name in array.dtype.names}
    if media_type == media.CSV:
        header, *rows = csv.reader(io.StringIO(body.decode(), newline=""))
        columns = dict(zip(header, zip(*rows, strict=True), strict=True))
        grouped: dict[str, list[Any]] = {}
        for name, values in columns.items():
            grouped.setdefault(name.partition("_")[0], []).append(values)
        return {
            name: np.array(v[0])
            if name == "label"
            else np.array(v, float).T.reshape(len(rows), *[len(v)][: len(v) > 1])
            for name, v in grouped.items()
        }
    table = pq.read_table(io.BytesIO(body)) if media_type == PARQUET else pa.ipc.open_stream(body).read_all()
    return {name: np.array(table.column(name).to_pylist()) for name in table.column_names}


def read_binary(outputs: list[dict[str, Any]], data: bytes) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for output in outputs:
        size = output["parameters"]["binary_data_size"]
        part, data = data[:size], data[size:]
        if output["datatype"] == "FP32":
            result[output["name"]] = np.frombuffer(part, "<f4").reshape(output["shape"])
            continue
        texts = []
        while part:
            (length,) = struct.unpack_from("<I", part)
            texts.append(part[4 : 4 + length].decode())
            part = part[4 + length :]
        result[output["name"]] = np.array(texts)
    assert data == b""
    return result


@pytest.mark.parametrize("kind", ["two", "three", "number"])
@pytest.mark.parametrize("media_type", media.ANSWERS)
@given(data=st.data())
def test_answers_hold_exactly_the_model_s_float32_values(media_type: str, kind: str, data: st.DataObject) -> None:
    width = 3 if kind == "three" else 1
    rows = data.draw(st.lists(st.lists(single, min_size=width, max_size=width), min_size=1, max_size=5))
    raw = np.array(rows, dtype=np.float32)
    body, content_type, headers = media.encode(media_type, answer(raw, kind))
    assert content_type.startswith(media_type)
    outputs = read(media_type, body, headers)
    first = outputs["value" if kind == "number" else "probability"]
    expected = raw if kind == "three" else raw[:, 0]
    np.testing.assert_array_equal(first.astype(np.float32).view(np.int32), expected.view(np.int32))
    if kind != "number":
        index = raw.argmax(axis=1) if kind == "three" else (raw[:, 0] >= 0.5).astype(int)
        assert outputs["label"].tolist() == [OUTPUTS[kind]["labels"][i] for i in index]


bits = st.integers(0, 2**32 - 1).map(lambda n: np.uint32(n).view(np.float32).item()).filter(np.isfinite)


@given(st.lists(st.tuples(bits | st.none(), bits | st.none()), min_size=1, max_size=8))
def test_every_format_reads_the_same_float32_values_bit_by_bit(rows: list[tuple[float | None, float | None]]) -> None:
    expected = np.array(rows, dtype=np.float32)
    columns = {"y": pa.array([y for _, y in rows], pa.float32()), "x": pa.array([x for x, _ in rows], pa.float32())}
    table = pa.table(columns)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["x", "y"])
    writer.writerows(("" if v is None else repr(v) for v in row) for row in rows)
    raw = expected.astype("<f4").tobytes()
    tensor = {"name": "t", "datatype": "FP32", "shape": [len(rows), 2], "parameters": {"binary_data_size": len(raw)}}
    head = orjson.dumps({"inputs": [tensor]})
    bodies = [
        (Sent(media.JSON), orjson.dumps({"instances": rows})),
        (Sent("", str(len(head))), head + raw),
        (Sent(media.CSV), text.getvalue().encode()),
        (Sent(ARROW), as_stream(table)),
        (Sent(PARQUET), as_parquet(table)),
        (Sent(NPY), as_npy(expected)),
    ]
    for sent, body in bodies:
        matrix = media.decode(MODEL, sent, body, LIMITS).matrix
        missing = np.isnan(expected)
        np.testing.assert_array_equal(np.isnan(matrix), missing)
        np.testing.assert_array_equal(matrix[~missing].view(np.int32), expected[~missing].view(np.int32))


def contributions() -> tuple[np.ndarray[Any, Any], Answer]:
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / 8
    tensors = [
        {"name": "contributions", "datatype": "FP32", "shape": [2, 3, 4], "data": values.ravel().tolist()},
        {"name": "label", "datatype": "BYTES", "shape": [2, 2], "data": ["a", "b", "c", "d"]},
    ]
    return values, Answer("m", "1", "job", "instances", orjson.dumps(tensors))


@pytest.mark.parametrize("media_type", [BINARY, NPY, ARROW, PARQUET])
def test_several_dimensions_a_row_are_answered_as_such(media_type: str) -> None:
    values, several = contributions()
    body, _, headers = media.encode(media_type, several)
    outputs = read(media_type, body, headers)
    np.testing.assert_array_equal(outputs["contributions"], values)
    assert outputs["label"].ravel().tolist() == ["a", "b", "c", "d"]


def test_in_json_several_dimensions_are_lists_of_lists() -> None:
    values, several = contributions()
    body, _, _ = media.encode(media.JSON, several)
    assert json.loads(body)["predictions"] == [
        {"contributions": of_row.tolist(), "label": labels}
        for of_row, labels in zip(values, [["a", "b"], ["c", "d"]], strict=True)
    ]


def test_in_csv_each_place_is_a_column() -> None:
    values, several = contributions()
    body, _, _ = media.encode(media.CSV, several)
    header, *rows = csv.reader(io.StringIO(body.decode(), newline=""))
    assert header == [*(f"contributions_{i}_{j}" for i in range(3) for j in range(4)), "label_0", "label_1"]
    assert [[*map(float, row[:12]), *row[12:]] for row in rows] == [
        [*values[0].ravel(), "a", "b"],
        [*values[1].ravel(), "c", "d"],
    ]


@pytest.mark.parametrize("media_type", media.ANSWERS)
def test_only_the_wanted_outputs_are_answered_and_in_that_order(media_type: str) -> None:
    raw = np.array([[0.25, 0.5, 0.25]], dtype=np.float32)
    body, _, headers = media.encode(media_type, answer(raw, outputs=["label", "probability"]))
    if media_type != media.JSON:
        assert list(read(media_type, body, headers)) == ["label", "probability"]
    body, _, headers = media.encode(media_type, answer(raw, outputs=["probability"]))
    outputs = read(media_type, body, headers)
    assert len(outputs) == 1
    assert next(iter(outputs.values())).tolist() == [[0.25, 0.5, 0.25]]


def test_the_binary_outputs_that_were_asked_for_are_sent_so_and_the_others_as_json() -> None:
    raw = np.array([[0.25, 0.5, 0.25]], dtype=np.float32)
    body, content_type, headers = media.encode(BINARY, answer(raw, id="mine", binary=["label"]))
    length = int(headers["Inference-Header-Content-Length"])
    assert content_type == BINARY
    assert json.loads(body[:length]) == {
        "model_name": "m",
        "model_version": "1",
        "id": "mine",
        "outputs": [
            {"name": "probability", "datatype": "FP32", "shape": [1, 3], "data": [0.25, 0.5, 0.25]},
            {"name": "label", "datatype": "BYTES", "shape": [1], "parameters": {"binary_data_size": 9}},
        ],
    }
    assert body[length:] == b"\5\0\0\0green"


def test_json_answers_in_the_form_of_the_request() -> None:
    raw = np.array([[0.25, 0.5, 0.25]], dtype=np.float32)
    v2 = json.loads(media.encode(media.JSON, answer(raw))[0])
    assert (v2["id"], v2["outputs"][1]["data"]) == ("job", ["green"])
    for form in ("instances", "csv", "arrow", "parquet", "npy"):
        rows = json.loads(media.encode(media.JSON, answer(raw, form=form))[0])
        assert rows == {"predictions": [{"probability": [0.25, 0.5, 0.25], "label": "green"}]}


@pytest.mark.parametrize("media_type", media.ANSWERS)
def test_what_is_no_number_is_answered_as_missing(media_type: str) -> None:
    raw = np.array([[np.nan], [1.5]], dtype=np.float32)
    body, _, headers = media.encode(media_type, answer(raw, "number"))
    if media_type == media.JSON:
        assert json.loads(body)["outputs"][0]["data"] == [None, 1.5]
    elif media_type == media.CSV:
        assert body == b'value\r\n""\r\n1.5\r\n'
    else:
        np.testing.assert_array_equal(read(media_type, body, headers)["value"], np.array([np.nan, 1.5], np.float32))


def test_a_request_is_answered_in_its_own_type() -> None:
    def kind(form: str, **fields: Any) -> str:
        return media.default_type(json.loads(json.dumps(Decoded(np.zeros((1, 1), np.float32), form, **fields).reply)))

    assert [kind(form) for form in ("v2", "instances", "csv")] == [media.JSON, media.JSON, media.CSV]
    assert [kind(form) for form in ("parquet", "arrow", "npy")] == [PARQUET, ARROW, NPY]
    assert kind("v2", binary=("label",)) == BINARY
    assert media.default_type({"format": "v2", "id": None, "outputs": None}) == media.JSON


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/xml; charset=utf-8", "*/*", "x", " / ;", "multipart/form-data"]
)
def test_an_unknown_type_is_refused_with_the_known_ones(content_type: str) -> None:
    with pytest.raises(UnknownType, match=r"isn't read here; send one of application/json, .*application/x-npy"):
        media.decode(MODEL, Sent(content_type), b"", LIMITS)


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "Application/JSON; charset=utf-8", "application/octet-stream"]
)
def test_json_is_read_under_each_of_its_types(content_type: str) -> None:
    assert media.decode(MODEL, Sent(content_type), b'{"instances": [[1, 2]]}', LIMITS).matrix.tolist() == [[1, 2]]


def test_pyarrow_is_imported_only_for_its_formats() -> None:
    program = "import sys; from workers.formats import inflate, media; print('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"False\n"
