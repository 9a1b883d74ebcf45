"""Plain JSON: {"instances": [[…], …]} or {"instances": [{"column": value}, …]}, answered {"predictions": […]}.

With {"outputs": ["name", …]} beside them only these outputs are answered.
"""

from itertools import islice
from typing import Any

import orjson

from workers.formats import Decoded, Fault, Invalid, Limits, Malformed, Matrix, check_size, escape, shown, to_matrix
from workers.formats.asked import check_asked
from workers.manifest import Manifest
from workers.model_store import Release
from workers.schema import MAX_FAULTS, Schema

NAME = "instances"


def decode(release: Release, instances: Any, limits: Limits, key: str = NAME, outputs: Any = None) -> Decoded:
    """Decode rows or records that stand under `key`, and the names of `outputs`, None for the usual ones.

    Raises Invalid with pointer and row, Malformed, TooLarge.
    """
    matrix = _matrix(release.schema, instances, limits, key)
    return Decoded(matrix, NAME, outputs=_outputs(release.manifest, outputs, len(matrix)))


def _outputs(manifest: Manifest, names: Any, rows: int) -> tuple[str, ...] | None:
    if names is None or names == []:
        return None
    if not isinstance(names, list):
        raise Invalid(Fault("/outputs", "expected a list of outputs' names"))
    check_asked(manifest, [(f"/outputs/{i}", name) for i, name in enumerate(names)], rows)
    return tuple(dict.fromkeys(names))


def _matrix(schema: Schema, instances: Any, limits: Limits, key: str) -> Matrix:
    if not isinstance(instances, list):
        raise Malformed(f"'{key}' is not a list")
    check_size(schema, len(instances), limits, f"/{key}")
    limits.check_columns(max((len(row) for row in instances if isinstance(row, list | dict)), default=0))
    if isinstance(instances[0], dict):
        rows = _records(schema, instances, key)
        names = [escape(name) for name in schema.names]
        return to_matrix(schema, rows, lambda r, c: f"/{key}/{r}/{names[c]}")
    width = len(schema.names)
    faults = [
        Fault(f"/{key}/{i}", f"row {i}: expected a list of {width} values, got {_shape(row)}")
        for i, row in enumerate(instances)
        if not (isinstance(row, list) and len(row) == width)
    ]
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    return to_matrix(schema, instances, lambda r, c: f"/{key}/{r}/{c}")


def encode(outputs: bytes) -> bytes:
    """Return {"predictions": […]}, one a row: the value of the only output, else an object of all outputs."""
    columns = {t["name"]: _rows(t) for t in orjson.loads(outputs)}
    if len(columns) == 1:
        (predictions,) = columns.values()
    else:
        predictions = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return orjson.dumps({"predictions": predictions})


def _rows(tensor: dict[str, Any]) -> list[Any]:
    rows: list[Any] = tensor["data"]
    for size in reversed(tensor["shape"][1:]):
        rows = [rows[i : i + size] for i in range(0, len(rows), size)]
    return rows


def _records(schema: Schema, instances: list[Any], key: str) -> list[list[Any]]:
    all_columns = schema.index.keys()
    faults: list[Fault] = []
    rows = []
    for i, record in enumerate(instances):
        if not isinstance(record, dict):
            faults.append(Fault(f"/{key}/{i}", f"row {i}: expected an object as in row 0, got {_shape(record)}"))
        else:
            if record.keys() != all_columns:
                faults += _record_faults(schema, record, i, f"/{key}/{i}/")
            rows.append([record.get(name) for name in schema.names])
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    return rows


def _record_faults(schema: Schema, record: dict[str, Any], row: int, at: str) -> list[Fault]:
    missing = [name for name in schema.required if name not in record]
    unknown = map(shown, islice((name for name in record if name not in schema.index), MAX_FAULTS))
    return [
        *(Fault(at + escape(name), f"row {row}: column '{name}' is missing") for name in missing),
        *(Fault(at + escape(name), f"row {row}: the model has no column '{name}'") for name in unknown),
    ]


def _shape(value: Any) -> str:
    if isinstance(value, list):
        return f"{len(value)}"
    return "an object" if isinstance(value, dict) else f"{type(value).__name__}"
