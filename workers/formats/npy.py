"""NumPy's file format for one array: of two dimensions in signature order, or structured, its fields matched by name.

The header is read here and not by NumPy, which would evaluate it as Python and believe its shape. Objects (pickles)
are never read. Source: numpy.lib.format.
"""

import ast
import io
import re
import struct
import sys
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from workers.formats import Decoded, Fault, Invalid, Limits, Malformed, as_float64, check_size, checked, shown
from workers.formats.named_columns import column_fault, locate, positions
from workers.model_store import Release
from workers.schema import Schema

NAME = "npy"
MAX_HEADER_BYTES = 1024 * 1024
_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    r"\{\s*'descr':\s*(?P<descr>'[^'\\]*'|\[.*\]),\s*'fortran_order':\s*(?P<fortran>True|False),"
    r"\s*'shape':\s*\((?P<shape>[0-9, ]*)\),?\s*\}\s*",
    re.DOTALL,
)
# A name is written as Python's repr() does, with the escapes that it uses.
_FIELD = re.compile(r"""\s*\(('(?:[^'\\]|\\[\\'"nrtxuU])*'|"(?:[^"\\]|\\[\\'"nrtxuU])*"),\s*'([^'\\]*)'\),?\s*""")
_TYPE = re.compile(r"[<>|=]?(?:b1|[iu][1248]|f[248]|[US][1-9][0-9]{0,6})")


def decode(release: Release, body: bytes, limits: Limits) -> Decoded:
    """Decode an array. Raises Malformed, Invalid, TooLarge."""
    descr, fortran, shape, at = _header(body)
    schema = release.schema
    fields = _fields(descr) if descr.startswith("[") else None
    # Summed up here: NumPy's own sum of the fields is an int of 32 bits, which overflows.
    dtypes = [_dtype(descr.strip("'"))] if fields is None else list(fields.values())
    itemsize = sum(dtype.itemsize for dtype in dtypes)
    size = prod(shape) * itemsize
    if itemsize < 1 or size != len(body) - at:
        raise Malformed(f"{len(body) - at:,} bytes of data; shape and type in the npy header need {size:,}")
    width = len(schema.names)
    if fields is not None:
        order = positions(schema, list(fields), limits)
        if len(shape) != 1:
            raise Invalid(Fault("", f"expected [rows], got {list(shape)}"))
    elif len(shape) != 2 or shape[1] != width:
        limits.check_columns(shape[-1] if shape else 1)
        raise Invalid(Fault("", f"expected [rows, {width}], got {list(shape)}"))
    check_size(schema, shape[0], limits, "")
    dtype = dtypes[0] if fields is None else _structure(fields)
    data = np.frombuffer(body, dtype, offset=at).reshape(shape, order="F" if fortran else "C")
    if fields is not None:
        columns = [data[name] for name in fields]
        values = [
            np.full(shape[0], np.nan) if position is None else _column(schema, column, columns[position])
            for column, position in enumerate(order)
        ]
        return Decoded(checked(schema, np.column_stack(values), locate(schema)), NAME)
    values = [_column(schema, column, data[:, column]) for column in range(width)]
    return Decoded(checked(schema, np.column_stack(values), lambda row, column: f"/{row}/{column}"), NAME)


def encode(tensors: list[dict[str, Any]]) -> bytes:
    """Return the only output as a plain array, several as a structured one with a field each; texts are Unicode."""
    arrays = {tensor["name"]: _array(tensor) for tensor in tensors}
    if len(arrays) == 1:
        (result,) = arrays.values()
    else:
        rows = len(next(iter(arrays.values())))
        result = np.empty(rows, dtype=[(name, array.dtype, array.shape[1:]) for name, array in arrays.items()])
        for name, array in arrays.items():
            result[name] = array
    file = io.BytesIO()
    np.lib.format.write_array(file, result, allow_pickle=False)
    return file.getvalue()


def _array(tensor: dict[str, Any]) -> npt.NDArray[Any]:
    dtype = np.str_ if tensor["datatype"] == "BYTES" else np.dtype("<f4")
    return np.array(tensor["data"], dtype=dtype).reshape(tensor["shape"])


def _header(body: bytes) -> tuple[str, bool, tuple[int, ...], int]:
    """Return type, Fortran order and shape as the header says, and where the data begin. Raises Malformed."""
    if body[:6] != _MAGIC:
        raise Malformed("the body is not an npy file: it doesn't begin with \\x93NUMPY")
    wide = body[6:7] != b"\1"
    begin = 12 if wide else 10
    if body[6:8] not in (b"\1\0", b"\2\0", b"\3\0") or len(body) < begin:
        raise Malformed("the body is not an npy file of version 1, 2 or 3")
    (length,) = struct.unpack_from("<I" if wide else "<H", body, 8)
    if length > MAX_HEADER_BYTES or begin + length > len(body):
        raise Malformed(f"the npy header says that it has {length:,} bytes; at most {MAX_HEADER_BYTES:,} are read")
    try:
        text = body[begin : begin + length].decode("utf-8" if body[6:7] == b"\3" else "latin1")
    except UnicodeDecodeError as error:
        raise Malformed(f"the npy header is not UTF-8: {error.reason}") from error
    found = _HEADER.fullmatch(text)
    if found is None:
        raise Malformed("the npy header is not one of a plain or structured array, as numpy.save writes it")
    shape = [part.strip() for part in found["shape"].split(",")]
    if shape[-1] == "":
        shape.pop()
    if len(shape) > 2 or not all(part.isdigit() and len(part) < 19 for part in shape):
        raise Malformed("the shape in the npy header is not one of one or two dimensions")
    return found["descr"], found["fortran"] == "True", tuple(map(int, shape)), begin + length


def _fields(descr: str) -> dict[str, np.dtype[Any]]:
    """Return the fields of a structured array. Raises Malformed, Invalid."""
    fields: dict[str, np.dtype[Any]] = {}
    at, end = 1, len(descr) - 1
    while at < end:
        field = _FIELD.match(descr, at, end)
        if field is None:
            raise Malformed("the npy header has a field that is neither one number nor one text")
        try:
            name = ast.literal_eval(field[1])
        except (SyntaxError, ValueError) as error:
            raise Malformed("the npy header has a field's name that can't be read") from error
        if name in fields:
            raise Invalid(column_fault(name, f"column '{shown(name)}' is sent twice"))
        fields[name] = _dtype(field[2])
        at = field.end()
    return fields


def _structure(fields: dict[str, np.dtype[Any]]) -> np.dtype[Any]:
    try:
        return np.dtype(list(fields.items()))
    except (ValueError, TypeError) as error:
        raise Malformed(f"the fields in the npy header make no array: {error}") from error


def _dtype(text: str) -> np.dtype[Any]:
    if not _TYPE.fullmatch(text):
        raise Malformed(f"arrays of the type '{text[:30]}' aren't read; send numbers or texts, never objects")
    return np.dtype(text)


def _column(schema: Schema, column: int, data: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return one column as float64. Raises Invalid for texts where numbers belong, or the other way."""
    name = schema.names[column]
    if (data.dtype.kind in "US") != (column in schema.categories):
        expected = "text" if column in schema.categories else "numbers"
        raise Invalid(column_fault(name, f"column '{name}': expected {expected}, got {data.dtype.str}"))
    if data.dtype.kind == "b" and (data.view(np.uint8) > 1).any():
        raise Malformed(f"column '{name}' has a boolean that is neither 0 nor 1")
    if data.dtype.kind not in "US":
        return as_float64(data)
    if data.dtype.kind == "S":
        # Not astype(np.str_): it took 4 GB for two texts of 4 MB.
        try:
            return schema.codes(column, (text.decode("ascii") or None for text in data.tolist()))
        except UnicodeDecodeError as error:
            raise Malformed(f"column '{name}' has a text that isn't ASCII, in an array of bytes") from error
    texts = np.ascontiguousarray(data.astype(data.dtype.newbyteorder("=")))
    # NumPy would make texts of such numbers, which Python can't have.
    if texts.view(np.uint32).max() > sys.maxunicode:
        raise Malformed(f"column '{name}' has a text that isn't Unicode")
    return schema.codes(column, (text or None for text in texts.tolist()))
