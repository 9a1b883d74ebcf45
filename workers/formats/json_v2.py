"""The Open Inference Protocol (V2) in JSON: {"inputs": [{"name", "shape", "datatype", "data"}]}.

Two ways to send a table: one tensor a column, matched by name, shape [rows] or [rows, 1]; or one tensor of any name and
shape [rows, columns] with the columns in signature order.
"""

import re
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from workers.formats import (
    Decoded,
    Fault,
    Invalid,
    Malformed,
    Matrix,
    Unavailable,
    cell_detail,
    check_rows,
    checked,
    numbers,
)
from workers.manifest import DATATYPES, Manifest
from workers.model_store import Release
from workers.schema import MAX_FAULTS, Schema

NAME = "v2"
FLOATS = {"FP32", "FP64"}
INTEGERS = {f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
# Without NUL and lone surrogates, which PostgreSQL doesn't store.
_ID = re.compile(r"[^\0\ud800-\udfff]{0,255}")


def decode(release: Release, data: dict[str, Any], max_rows: int) -> Decoded:
    """Decode a V2 request. Raises Malformed, Invalid with pointer and row, TooLarge, Unavailable."""
    inputs = data["inputs"]
    if not isinstance(inputs, list) or not all(isinstance(t, dict) for t in inputs):
        raise Malformed("'inputs' is not a list of tensors")
    if not inputs:
        raise Invalid(Fault("/inputs", "at least one tensor is required"))
    tensors = [_Tensor(i, t) for i, t in enumerate(inputs)]
    schema = release.schema
    for tensor in tensors:
        rows = tensor.shape[0] if tensor.shape else 0
        check_rows(rows, max_rows, f"{tensor.pointer}/shape")
    if len(tensors) == 1 and (len(tensors[0].shape) == 2 or tensors[0].name not in schema.index):
        matrix = _whole_table(schema, tensors[0])
    else:
        matrix = _columns(schema, tensors)
    return Decoded(matrix, NAME, id=_id(data), outputs=_outputs(release.manifest, data))


def encode(model: str, version: str, request_id: str, outputs: bytes) -> bytes:
    """Return the V2 answer around the tensors that were recorded."""
    head = orjson.dumps({"model_name": model, "model_version": version, "id": request_id})
    return head[:-1] + b',"outputs":' + outputs + b"}"


def metadata(manifest: Manifest, versions: list[str]) -> dict[str, Any]:
    """Return the V2 model metadata: one input a column."""
    return {
        "name": manifest.model,
        "versions": versions,
        "platform": manifest.runtime,
        "inputs": [{"name": c.name, "datatype": DATATYPES[c.type], "shape": [-1]} for c in manifest.columns],
        "outputs": [
            {"name": t.name, "datatype": t.datatype, "shape": [-1] if t.width is None else [-1, t.width]}
            for t in manifest.output.tensors
        ],
    }


class _Tensor:
    """One tensor of the request, its fields checked for type but its data not yet read."""

    def __init__(self, index: int, tensor: dict[str, Any]) -> None:
        self.pointer = f"/inputs/{index}"
        name, shape, datatype = tensor.get("name"), tensor.get("shape"), tensor.get("datatype")
        parameters = tensor.get("parameters")
        if isinstance(parameters, dict) and "binary_data_size" in parameters:
            raise Unavailable("binary tensors are not available yet, send 'data' as JSON")
        faults = []
        if not isinstance(name, str):
            faults.append(Fault(f"{self.pointer}/name", "expected text"))
        if not isinstance(shape, list) or len(shape) > 2 or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
            faults.append(Fault(f"{self.pointer}/shape", "expected a list of one or two whole numbers"))
        if not isinstance(datatype, str) or datatype not in FLOATS | INTEGERS:
            known = ", ".join(sorted(FLOATS | INTEGERS))
            faults.append(Fault(f"{self.pointer}/datatype", f"expected a number type: {known}"))
        if not isinstance(tensor.get("data"), list):
            faults.append(Fault(f"{self.pointer}/data", "expected a list"))
        if faults:
            raise Invalid(*faults)
        self.name: str = name  # type: ignore[assignment]
        self.shape: list[int] = shape  # type: ignore[assignment]
        self.datatype: str = datatype  # type: ignore[assignment]
        self.data: list[Any] = tensor["data"]
        self._nested = len(self.shape) == 2 and bool(self.data) and isinstance(self.data[0], list)

    def locate(self, i: int) -> str:
        """Return the pointer to the value number `i`."""
        return f"{self.pointer}/data/" + ("{}/{}".format(*divmod(i, self.shape[1])) if self._nested else str(i))

    def values(self, where: Any) -> npt.NDArray[np.float64]:
        """Return the data, nested or flat, as a flat array of the tensor's size. `where` as for `formats.numbers`."""
        flat, shape = self.data, self.shape
        if self._nested:
            width = shape[1]
            if len(flat) != shape[0] or not all(isinstance(row, list) and len(row) == width for row in flat):
                raise Invalid(
                    Fault(f"{self.pointer}/data", f"expected {shape[0]} lists of {width} values, as the shape says")
                )
            flat = [value for row in flat for value in row]
        if len(flat) != prod(shape):
            raise Invalid(
                Fault(f"{self.pointer}/data", f"{len(flat)} values, but the shape {shape} needs {prod(shape)}")
            )
        result = numbers(flat, where)
        if self.datatype in INTEGERS:
            limits = np.iinfo(self.datatype.lower())
            fits = (result == np.floor(result)) & (result >= limits.min) & (result <= limits.max)
            wrong = np.flatnonzero(~fits & ~np.isnan(result))[:MAX_FAULTS]
            if len(wrong):
                reason = f"expected a whole number that fits {self.datatype}"
                raise Invalid(*(Fault(*where(int(i), reason)) for i in wrong))
        return result


def _whole_table(schema: Schema, tensor: _Tensor) -> Matrix:
    width = len(schema.names)
    if len(tensor.shape) != 2 or tensor.shape[1] != width:
        raise Invalid(Fault(f"{tensor.pointer}/shape", f"expected [rows, {width}], got {tensor.shape}"))

    def where(i: int, reason: str) -> tuple[str, str]:
        return tensor.locate(i), cell_detail(schema, *divmod(i, width), reason)

    return checked(
        schema, tensor.values(where).reshape(-1, width), lambda row, column: tensor.locate(row * width + column)
    )


def _columns(schema: Schema, tensors: list[_Tensor]) -> Matrix:
    faults: list[Fault] = []
    by_column: dict[int, _Tensor] = {}
    rows = tensors[0].shape[0]
    for tensor in tensors:
        column = schema.index.get(tensor.name)
        if column is None:
            faults.append(Fault(f"{tensor.pointer}/name", f"the model has no column '{tensor.name}'"))
        elif column in by_column:
            faults.append(Fault(f"{tensor.pointer}/name", f"column '{tensor.name}' is sent twice"))
        elif tensor.shape not in ([rows], [rows, 1]):
            faults.append(Fault(f"{tensor.pointer}/shape", f"expected [{rows}] or [{rows}, 1], got {tensor.shape}"))
        else:
            by_column[column] = tensor
    sent = {tensor.name for tensor in tensors}
    faults += [Fault("/inputs", f"column '{name}' is missing") for name in schema.names if name not in sent]
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    values = np.empty((rows, len(schema.names)), dtype=np.float64)
    for column, tensor in by_column.items():

        def where(i: int, reason: str, column: int = column, tensor: _Tensor = tensor) -> tuple[str, str]:
            return tensor.locate(i), cell_detail(schema, i, column, reason)

        values[:, column] = tensor.values(where)
    return checked(schema, values, lambda row, column: by_column[column].locate(row))


def _id(data: dict[str, Any]) -> str | None:
    request_id = data.get("id")
    if request_id is not None and not (isinstance(request_id, str) and _ID.fullmatch(request_id)):
        raise Invalid(Fault("/id", "expected text of at most 255 characters"))
    return request_id


def _outputs(manifest: Manifest, data: dict[str, Any]) -> tuple[str, ...] | None:
    wanted = data.get("outputs")
    if wanted is None or wanted == []:
        return None
    known = [t.name for t in manifest.output.tensors]
    if not isinstance(wanted, list):
        raise Invalid(Fault("/outputs", "expected a list"))
    faults = [
        Fault(f"/outputs/{i}{'/name' if isinstance(o, dict) else ''}", f"expected an output's name: {', '.join(known)}")
        for i, o in enumerate(wanted)
        if not isinstance(o, dict) or o.get("name") not in known
    ]
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    return tuple(dict.fromkeys(o["name"] for o in wanted))
