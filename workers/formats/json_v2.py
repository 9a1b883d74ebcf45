"""The Open Inference Protocol (V2) in JSON: {"inputs": [{"name", "shape", "datatype", "data"}]}.

Two ways to send a table: one tensor a column, matched by name, shape [rows] or [rows, 1]; or one tensor of any name and
shape [rows, columns] with the columns in signature order. The data may follow as raw bytes (v2_binary).
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
    Limits,
    Malformed,
    Matrix,
    Unavailable,
    cell_detail,
    check_size,
    checked,
    numbers,
    shown,
    v2_binary,
)
from workers.formats.asked import check_asked
from workers.manifest import Manifest
from workers.model_store import Release
from workers.schema import MAX_FAULTS, Schema
from workers.template.columns import DATATYPES

NAME = "v2"
NUMBERS = tuple(v2_binary.DTYPES)
DATATYPES_READ = (*NUMBERS, "BYTES")
LIMITS = {"BOOL": (0, 1)} | {
    name: (int(np.iinfo(dtype).min), int(np.iinfo(dtype).max))
    for name, dtype in v2_binary.DTYPES.items()
    if "INT" in name
}
_TRITON_TYPES = {"FP32": "TYPE_FP32", "INT64": "TYPE_INT64", "BYTES": "TYPE_STRING"}
# Without NUL and lone surrogates, which PostgreSQL doesn't store.
_ID = re.compile(r"[^\0\ud800-\udfff]{0,255}")


def decode(release: Release, data: dict[str, Any], limits: Limits, raw: bytes | None = None) -> Decoded:
    """Decode a V2 request; `raw` is what follows the JSON, None where nothing may.

    Raises Malformed, Invalid with pointer and row, TooLarge, Unavailable.
    """
    inputs = data["inputs"]
    if not isinstance(inputs, list) or not all(isinstance(t, dict) for t in inputs):
        raise Malformed("'inputs' is not a list of tensors")
    if not inputs:
        raise Invalid(Fault("/inputs", "at least one tensor is required"))
    limits.check_columns(len(inputs))
    schema = release.schema
    # Of more tensors than columns the first ones have all the faults that are named.
    tensors = [_Tensor(i, t) for i, t in enumerate(inputs[: len(schema.names) + MAX_FAULTS])]
    _hand_out(tensors, raw)
    for tensor in tensors:
        rows, *width = tensor.shape or [0]
        limits.check_columns(sum(width))
        check_size(schema, rows, limits, f"{tensor.pointer}/shape")
    matrix = _whole_table(schema, tensors[0]) if _is_table(schema, tensors) else _columns(schema, tensors)
    outputs, binary = _outputs(release.manifest, data, len(matrix))
    return Decoded(matrix, NAME, id=_id(data), outputs=outputs, binary=binary)


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
        "outputs": [{"name": t.name, "datatype": t.datatype, "shape": [-1, *t.shape]} for t in manifest.offered],
    }


def configuration(manifest: Manifest) -> dict[str, Any]:
    """Return the model's configuration as Triton has it: the rows are a dimension like others, there is no batch."""
    of_model = metadata(manifest, [manifest.version])

    def parts(tensors: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [{"name": t["name"], "data_type": _TRITON_TYPES[t["datatype"]], "dims": t["shape"]} for t in tensors]

    return {
        "name": manifest.model,
        "platform": manifest.runtime,
        "backend": manifest.runtime,
        "version_policy": {"specific": {"versions": [int(manifest.version)]}},
        "max_batch_size": 0,
        "input": parts(of_model["inputs"]),
        "output": parts(of_model["outputs"]),
    }


class _Tensor:
    """One tensor of the request, its fields checked for type but its data not yet read."""

    def __init__(self, index: int, tensor: dict[str, Any]) -> None:
        self.pointer = f"/inputs/{index}"
        name, shape, datatype, data = (tensor.get(key) for key in ("name", "shape", "datatype", "data"))
        parameters = tensor.get("parameters")
        parameters = parameters if isinstance(parameters, dict) else {}
        _refuse_unbuilt(parameters)
        size = parameters.get("binary_data_size")
        faults = []
        if not isinstance(name, str):
            faults.append(Fault(f"{self.pointer}/name", "expected text"))
        if not isinstance(shape, list) or len(shape) > 2 or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
            faults.append(Fault(f"{self.pointer}/shape", "expected a list of one or two whole numbers"))
        if not isinstance(datatype, str) or datatype not in DATATYPES_READ:
            faults.append(Fault(f"{self.pointer}/datatype", f"expected one of {', '.join(DATATYPES_READ)}"))
        if size is not None and not (type(size) is int and size >= 0 and data is None):
            reason = "expected a number of bytes, and no 'data' beside it"
            faults.append(Fault(f"{self.pointer}/parameters/binary_data_size", reason))
        if size is None and not isinstance(data, list):
            faults.append(Fault(f"{self.pointer}/data", "expected a list"))
        if faults:
            raise Invalid(*faults)
        self.name: str = name  # type: ignore[assignment]
        self.shape: list[int] = shape  # type: ignore[assignment]
        self.datatype: str = datatype  # type: ignore[assignment]
        self.data: list[Any] = data or []
        self.size: int | None = size
        self.raw = b""
        self._nested = len(self.shape) == 2 and bool(self.data) and isinstance(self.data[0], list)

    def locate(self, i: int) -> str:
        """Return the pointer to the value number `i`; in binary data, where it would stand if it were JSON."""
        return f"{self.pointer}/data/" + ("{}/{}".format(*divmod(i, self.shape[1])) if self._nested else str(i))

    def texts(self) -> list[Any]:
        """Return the data of a BYTES tensor as a flat list of the tensor's size."""
        if self.size is None:
            return self._flat()
        return v2_binary.read_texts(self.raw, prod(self.shape), self._size_pointer)

    def numbers(self, where: Any) -> npt.NDArray[np.float64]:
        """Return the data of any other tensor as a flat array of its size. `where` as for `formats.numbers`."""
        if self.size is not None:
            result = v2_binary.read_numbers(self.datatype, self.raw, prod(self.shape), self._size_pointer)
        elif self.datatype == "BOOL":
            result = numbers([int(value) if isinstance(value, bool) else value for value in self._flat()], where)
        else:
            result = numbers(self._flat(), where)
        if self.datatype in LIMITS:
            low, high = LIMITS[self.datatype]
            fits = (result == np.floor(result)) & (result >= low) & (result <= high)
            wrong = np.flatnonzero(~fits & ~np.isnan(result))[:MAX_FAULTS]
            if len(wrong):
                reason = f"expected a whole number that fits {self.datatype}"
                raise Invalid(*(Fault(*where(int(i), reason)) for i in wrong))
        return result

    @property
    def _size_pointer(self) -> str:
        return f"{self.pointer}/parameters/binary_data_size"

    def _flat(self) -> list[Any]:
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
        return flat


def _hand_out(tensors: list[_Tensor], raw: bytes | None) -> None:
    """Give each binary tensor its bytes. Raises Invalid without a binary part, Malformed for one of another length."""
    binary = [tensor for tensor in tensors if tensor.size is not None]
    if raw is None:
        if binary:
            reason = f"binary data is read only behind a JSON part whose length the header {v2_binary.HEADER} gives"
            raise Invalid(Fault(f"{binary[0].pointer}/parameters/binary_data_size", reason))
        return
    at = 0
    for tensor in binary:
        end = at + (tensor.size or 0)
        tensor.raw = raw[at:end]
        at = end
    if at != len(raw):
        raise Malformed(f"{len(raw):,} bytes follow the JSON, but the tensors' binary_data_size sum up to {at:,}")


def _is_table(schema: Schema, tensors: list[_Tensor]) -> bool:
    """Tell whether all columns are in one tensor, and it isn't the only column that was not left out."""
    first, width = tensors[0], len(schema.names)
    return len(tensors) == 1 and (first.name not in schema.index or (len(first.shape) == 2 and first.shape[1] == width))


def _whole_table(schema: Schema, tensor: _Tensor) -> Matrix:
    width = len(schema.names)
    if len(tensor.shape) != 2 or tensor.shape[1] != width:
        raise Invalid(Fault(f"{tensor.pointer}/shape", f"expected [rows, {width}], got {tensor.shape}"))
    for column in range(width):
        _check_datatype(schema, tensor, column)

    def where(i: int, reason: str) -> tuple[str, str]:
        return tensor.locate(i), cell_detail(schema, *divmod(i, width), reason)

    if schema.categories:
        texts = tensor.texts()
        values = np.column_stack([schema.codes(column, texts[column::width]) for column in range(width)])
    else:
        values = tensor.numbers(where).reshape(-1, width)
    return checked(schema, values, lambda row, column: tensor.locate(row * width + column))


def _check_datatype(schema: Schema, tensor: _Tensor, column: int) -> None:
    """Raise Invalid unless texts go to a column of categories and numbers to one of numbers."""
    name, pointer = schema.names[column], f"{tensor.pointer}/datatype"
    if column in schema.categories and tensor.datatype != "BYTES":
        raise Invalid(Fault(pointer, f"column '{name}' takes text: expected BYTES, got {tensor.datatype}"))
    if column not in schema.categories and tensor.datatype == "BYTES":
        raise Invalid(Fault(pointer, f"column '{name}' takes numbers: expected {', '.join(NUMBERS)}"))


def _columns(schema: Schema, tensors: list[_Tensor]) -> Matrix:
    faults: list[Fault] = []
    by_column: dict[int, _Tensor] = {}
    rows = tensors[0].shape[0]
    for tensor in tensors:
        column = schema.index.get(tensor.name)
        if column is None:
            faults.append(Fault(f"{tensor.pointer}/name", f"the model has no column '{shown(tensor.name)}'"))
        elif column in by_column:
            faults.append(Fault(f"{tensor.pointer}/name", f"column '{tensor.name}' is sent twice"))
        elif tensor.shape not in ([rows], [rows, 1]):
            faults.append(Fault(f"{tensor.pointer}/shape", f"expected [{rows}] or [{rows}, 1], got {tensor.shape}"))
        else:
            by_column[column] = tensor
    sent = {tensor.name for tensor in tensors}
    faults += [Fault("/inputs", f"column '{name}' is missing") for name in schema.required if name not in sent]
    if faults:
        raise Invalid(*faults[:MAX_FAULTS])
    values = np.full((rows, len(schema.names)), np.nan)
    for column, tensor in by_column.items():
        _check_datatype(schema, tensor, column)
        if column in schema.categories:
            values[:, column] = schema.codes(column, tensor.texts())
            continue

        def where(i: int, reason: str, column: int = column, tensor: _Tensor = tensor) -> tuple[str, str]:
            return tensor.locate(i), cell_detail(schema, i, column, reason)

        values[:, column] = tensor.numbers(where)
    return checked(schema, values, lambda row, column: by_column[column].locate(row))


def _id(data: dict[str, Any]) -> str | None:
    request_id = data.get("id")
    if request_id is not None and not (isinstance(request_id, str) and _ID.fullmatch(request_id)):
        raise Invalid(Fault("/id", "expected text of at most 255 characters"))
    return request_id


def _outputs(manifest: Manifest, data: dict[str, Any], rows: int) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Return the outputs that were asked for, None for the usual ones, and those to be sent as raw bytes."""
    all_binary = _flag(data, "", "binary_data_output", False)
    wanted = data.get("outputs")
    if wanted is None or wanted == []:
        return None, tuple(t.name for t in manifest.output.tensors) if all_binary else ()
    if not isinstance(wanted, list):
        raise Invalid(Fault("/outputs", "expected a list"))
    named = [
        (f"/outputs/{i}/name", o.get("name")) if isinstance(o, dict) else (f"/outputs/{i}", None)
        for i, o in enumerate(wanted)
    ]
    check_asked(manifest, named, rows)
    # Of an output that is named twice the last one counts.
    binary = {o["name"]: _flag(o, f"/outputs/{i}", "binary_data", all_binary) for i, o in enumerate(wanted)}
    return tuple(binary), tuple(name for name, is_binary in binary.items() if is_binary)


def _flag(part: dict[str, Any], pointer: str, name: str, default: bool) -> bool:
    """Return a true or false of the parameters of a part of the request."""
    parameters = part.get("parameters")
    if parameters is None:
        return default
    if not isinstance(parameters, dict):
        raise Invalid(Fault(f"{pointer}/parameters", "expected an object"))
    _refuse_unbuilt(parameters)
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise Invalid(Fault(f"{pointer}/parameters/{name}", "expected true or false"))
    return value


def _refuse_unbuilt(parameters: dict[str, Any]) -> None:
    """Raise Unavailable for a parameter that would change where data is or what is answered."""
    for name in ("shared_memory_region", "classification"):
        if name in parameters:
            raise Unavailable(f"the parameter '{name}' is not available")
