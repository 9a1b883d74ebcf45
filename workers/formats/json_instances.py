"""Plain JSON: {"instances": [[…], …]} or {"instances": [{"column": value}, …]}, answered {"predictions": […]}."""

from itertools import islice
from typing import Any

import orjson

from workers.formats import Decoded, Fault, Invalid, Limits, Malformed, check_size, escape, shown, to_matrix
from workers.model_store import Release
from workers.schema import MAX_FAULTS, Schema

NAME = "instances"


def decode(release: Release, instances: Any, limits: Limits, key: str = NAME) -> Decoded:
    """Decode rows or records that stand under `key`. Raises Invalid with pointer and row, Malformed, TooLarge."""
    if not isinstance(instances, list):
        raise Malformed(f"'{key}' is not a list")
    schema = release.schema
    check_size(schema, len(instances), limits, f"/{key}")
    limits.check_columns(max((len(row) for row in instances if isinstance(row, list | dict)), default=0))
    if isinstance(instances[0], dict):
        rows = _records(schema, instances, key)
        names = [escape(name) for name in schema.names]
        return Decoded(to_matrix(schema, rows, lambda r, c: f"/{key}/{r}/{names[c]}"), NAME)
    width = len(schema.names)
    faults = [
        Fault(f"/{key}/{i}", f"row {i}: expected a list of {width} values, got {_shape(row)}")
        for i, row in enumerate(instances)
        if not (isinstance(row, list) and len(row) == width)
    ]
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    return Decoded(to_matrix(schema, instances, lambda r, c: f"/{key}/{r}/{c}"), NAME)


def encode(outputs: bytes) -> bytes:
    """Return {"predictions": […]}, one a row: the value of the only output, else an object of all outputs."""
    columns = {t["name"]: _rows(t) for t in orjson.loads(outputs)}
    if len(columns) == 1:
        (predictions,) = columns.values()
    else:
        predictions = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return orjson.dumps({"predictions": predictions})


def _rows(tensor: dict[str, Any]) -> list[Any]:
    data, shape = tensor["data"], tensor["shape"]
    if len(shape) == 1:
        return list(data)
    width = shape[1]
    return [data[i : i + width] for i in range(0, len(data), width)]


def _records(schema: Schema, instances: list[Any], key: str) -> list[list[Any]]:
    expected = schema.index.keys()
    faults: list[Fault] = []
    rows = []
    for i, record in enumerate(instances):
        if not isinstance(record, dict):
            faults.append(Fault(f"/{key}/{i}", f"row {i}: expected an object as in row 0, got {_shape(record)}"))
        elif record.keys() != expected:
            at = f"/{key}/{i}/"
            faults += [
                Fault(at + escape(name), f"row {i}: column '{name}' is missing")
                for name in schema.names
                if name not in record
            ]
            unknown = islice((name for name in record if name not in schema.index), MAX_FAULTS)
            faults += [
                Fault(at + escape(name), f"row {i}: the model has no column '{name}'") for name in map(shown, unknown)
            ]
        else:
            rows.append([record[name] for name in schema.names])
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    return rows


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)}"
    return "an object" if isinstance(value, dict) else f"{type(value).__name__}"
