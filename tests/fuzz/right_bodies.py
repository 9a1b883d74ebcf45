"""Bodies that are right for the example models, in every type that they may be sent in."""

import json
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from tests.chaos.samples import numbers
from tests.stack import ROOT
from tests.unit.formats.bodies import ARROW, BINARY, NPY, PARQUET, as_binary, as_npy, as_parquet, as_stream
from workers.formats.media import CSV, JSON
from workers.manifest import read_manifest

MODELS = ("wine", "breast_cancer")


@cache
def columns(model: str) -> tuple[str, ...]:
    """Return the names of the model's columns."""
    return tuple(column.name for column in read_manifest(ROOT / "models_store" / model / "1" / "manifest.yaml").columns)


def rows(model: str, count: int = 2) -> list[list[float]]:
    """Return samples of the model's data set."""
    values: list[list[float]] = numbers(model, 0, count).tolist()
    return values


def documents(model: str) -> list[dict[str, Any]]:
    """Return what may be sent as JSON."""
    table = numbers(model, 3, 2)
    names = columns(model)
    one = {"name": "table", "shape": list(table.shape), "datatype": "FP64", "data": table.ravel().tolist()}
    each = [
        {"name": name, "shape": [2, 1], "datatype": "FP32", "data": table[:, i].tolist()}
        for i, name in enumerate(names)
    ]
    return [
        {"instances": rows(model)},
        {"instances": [dict(zip(names, row, strict=True)) for row in rows(model)]},
        {"inputs": [one], "id": "mine"},
        {"inputs": each, "outputs": [{"name": "label"}]},
        {"inputs": [one], "parameters": {"binary_data_output": True}},
    ]


@cache
def bodies(model: str, media_type: str) -> tuple[bytes, ...]:
    """Return the right bodies of a model in a type."""
    values = numbers(model, 0, 3)
    names = columns(model)
    table = pa.table({name: values[:, i] for i, name in enumerate(names)})
    if media_type == JSON:
        return tuple(json.dumps(each).encode() for each in documents(model))
    if media_type == BINARY:
        return (json.dumps(documents(model)[2]).encode(), binary(model))
    if media_type == CSV:
        lines = [",".join(f'"{name}"' for name in names), *(",".join(map(str, row)) for row in values.tolist())]
        return ("\r\n".join(lines).encode(), "\n".join(lines).encode() + b"\n")
    if media_type == PARQUET:
        return (as_parquet(table), as_parquet(table, compression="zstd", row_group_size=2))
    if media_type == ARROW:
        return (as_stream(table), as_stream(table, 2, compression="zstd"))
    assert media_type == NPY, media_type
    return (as_npy(np.ascontiguousarray(values)), as_npy(values.astype(">f4")))


@cache
def binary(model: str) -> bytes:
    """Return a V2 request with its tensor behind the JSON; see `header_length`."""
    values = numbers(model, 0, 2).astype("<f4")
    return as_binary([("table", "FP32", list(values.shape), values.tobytes())]).data


def header_length(model: str) -> int:
    """Return what Inference-Header-Content-Length says of `binary`."""
    return len(binary(model)) - numbers(model, 0, 2).astype("<f4").nbytes
