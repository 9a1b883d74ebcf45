"""Functions that a manifest names as custom steps, named for their fault."""

import numpy as np
import numpy.typing as npt

Columns = dict[str, npt.NDArray[np.float32]]
NOTHING = None


def ratio(columns: Columns) -> Columns:
    a, b = columns["a"], columns["b"]
    result = {"ratio": a / b, "b": b + 1}
    a[:] = 0  # its own copy
    return {name: values.astype(np.float32) for name, values in result.items()}


def returns_none(columns: Columns) -> None:
    return None


def returns_too_little(columns: Columns) -> Columns:
    return {"b": columns["b"]}


def returns_float64(columns: Columns) -> dict[str, npt.NDArray[np.float64]]:
    return {name: np.zeros(len(columns["a"])) for name in ("ratio", "b")}


def returns_one_row(columns: Columns) -> Columns:
    return dict.fromkeys(("ratio", "b"), np.zeros(1, np.float32))


def returns_a_list(columns: Columns) -> dict[str, list[float]]:
    return dict.fromkeys(("ratio", "b"), [1.0, 2.0])


def raises(columns: Columns) -> Columns:
    raise KeyError("no")
