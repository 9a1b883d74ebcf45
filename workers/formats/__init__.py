"""Wire formats, one file each. All decode to one matrix in signature order and encode from one list of V2 tensors."""

from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from workers.schema import MAX_FAULTS, Schema
from workers.template.output import CONTRIBUTIONS

Matrix = npt.NDArray[np.float32]
# Rows times columns of one request, 8 MiB as float32; a few bytes of a columnar format can stand for very many.
MAX_VALUES = 2 * 1024 * 1024
# Bytes to which the compressed or repeated parts inside one Arrow or Parquet body may unpack.
MAX_UNPACKED = 32 * 1024 * 1024
# Characters of a client's own word that an answer repeats; no column has a longer name.
MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a request: a JSON pointer into it and what was expected there."""

    pointer: str
    detail: str


@dataclass(frozen=True, slots=True)
class Limits:
    """How many rows and columns one request may have."""

    rows: int
    columns: int

    def check_columns(self, count: int) -> None:
        """Raise TooLarge for too many columns; called before any of them is looked for in the signature."""
        if count > self.columns:
            raise TooLarge(f"{count:,} columns; one request may have {self.columns:,}")


class Malformed(ValueError):
    """A body that can't be read at all (400)."""


class TooLarge(ValueError):
    """More rows, values or bytes than one request may have (413)."""


class UnknownType(ValueError):
    """A media type or charset that isn't read here (415)."""


class UnknownCoding(ValueError):
    """A content coding that isn't read here (415)."""


class Unavailable(ValueError):
    """A part of the format that isn't built (422 not-available)."""


class Invalid(ValueError):
    """A body that can be read but doesn't fit the model's signature (422)."""

    def __init__(self, *faults: Fault) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{f.pointer}: {f.detail}" for f in faults))


@dataclass(frozen=True, slots=True)
class Decoded:
    """A request's matrix, and what the answer must repeat or be limited to.

    `outputs` are the ones that were asked for, None for all; `binary` those that a V2 answer sends as raw bytes.
    """

    matrix: Matrix
    format: str
    id: str | None = None
    outputs: tuple[str, ...] | None = None
    binary: tuple[str, ...] = ()

    @property
    def explain(self) -> bool:
        """Whether contributions were asked for, which another pool makes."""
        return CONTRIBUTIONS in (self.outputs or ())

    @property
    def reply(self) -> dict[str, Any]:
        """Return all but the matrix as JSON, to be kept until the answer is made (`answer.Answer.of`)."""
        return {"format": self.format, "id": self.id, "outputs": self.outputs, "binary": self.binary}


class Locate(Protocol):
    """Says where in the request the value of a row and a column stands, as a JSON pointer."""

    def __call__(self, row: int, column: int) -> str:
        """Return the pointer."""


def escape(name: str) -> str:
    """Escape a name for use in a JSON pointer (RFC 6901)."""
    return name.replace("~", "~0").replace("/", "~1")


def shown(text: str) -> str:
    """Return a client's own word as an answer repeats it: cut, as up to twenty faults may each repeat megabytes."""
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"


def as_float64(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Return numbers of any type as float64."""
    # NumPy warns of a signalling NaN; here and below it is a missing value like any other.
    with np.errstate(invalid="ignore"):
        return values.astype(np.float64)


def check_size(schema: Schema, rows: int, limits: Limits, pointer: str) -> None:
    """Raise Invalid for no rows, TooLarge for too many, or for more values than a request may have."""
    if rows < 1:
        raise Invalid(Fault(pointer, "at least one row is required"))
    if rows > limits.rows:
        raise TooLarge(f"{rows:,} rows; one request may have {limits.rows:,}")
    values = rows * len(schema.names)
    if values > MAX_VALUES:
        raise TooLarge(f"{values:,} values; one request may have {MAX_VALUES:,} (rows times columns)")


def numbers(values: list[Any], locate_index: Any) -> npt.NDArray[np.float64]:
    """Return a flat list as float64, None as NaN. Raises Invalid for anything that isn't a JSON number.

    NumPy would read "1.5" and true as numbers; a wrong type is an error here, never a silent guess.
    """
    kinds = set(map(type, values))
    if kinds <= {float, int}:
        try:
            return np.array(values, dtype=np.float64)
        except OverflowError:
            pass
    faults: list[Fault] = []
    result = np.empty(len(values), dtype=np.float64)
    for i, value in enumerate(values):
        if value is None:
            result[i] = np.nan
        elif type(value) in (float, int):
            try:
                result[i] = value
            except OverflowError:
                faults.append(Fault(*locate_index(i, "expected a number that fits float32")))
        else:
            faults.append(Fault(*locate_index(i, f"expected a number, got {_kind(value)}")))
        if len(faults) >= MAX_FAULTS:
            break
    if faults:
        raise Invalid(*faults)
    return result


def to_matrix(schema: Schema, rows: list[list[Any]], locate: Locate) -> Matrix:
    """Turn rows of JSON values, each as wide as the schema, into the internal matrix. Raises Invalid with the cell."""
    width = len(schema.names)

    def where(i: int, reason: str) -> tuple[str, str]:
        row, column = divmod(i, width)
        return locate(row, column), cell_detail(schema, row, column, reason)

    cells = list(chain.from_iterable(rows))
    for column in schema.categories:
        cells[column::width] = schema.codes(column, cells[column::width]).tolist()
    flat = numbers(cells, where)
    return checked(schema, flat.reshape(len(rows), width), locate)


def checked(schema: Schema, values: npt.NDArray[np.float64], locate: Locate) -> Matrix:
    """Return the values, and defaults for missing ones, as the internal matrix.

    Raises Invalid for what the signature doesn't allow.
    """
    values = schema.filled(values)
    if faults := schema.faults(values):
        raise Invalid(*(Fault(locate(f.row, f.column), cell_detail(schema, f.row, f.column, f.reason)) for f in faults))
    with np.errstate(invalid="ignore"):
        return np.ascontiguousarray(values, dtype="<f4")


def cell_detail(schema: Schema, row: int, column: int, reason: str) -> str:
    """Name row and column for people."""
    return f"row {row}, column '{schema.names[column]}': {reason}"


def _kind(value: Any) -> str:
    names = {str: "text", bool: "a boolean", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
