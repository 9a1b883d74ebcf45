"""From raw predictions to what the client sees: the same post-processing for every model."""

from typing import Any

import numpy as np
import orjson

from workers.runtimes import Matrix
from workers.template.output import VALUE, Isotonic, Output, Platt, Tensor

# The second label from this probability on, unless the manifest says otherwise.
THRESHOLD = 0.5
# The log-odds of 1 are infinite; beyond this float32 has no number but 1.
_LARGEST = 1 - 2.0**-25


def named_outputs(output: Output, raw: Matrix, *, texts: bool = True) -> dict[str, Any]:
    """Return an array for each of `output.tensors`, its first axis being the rows of `raw`: float32, labels as text.

    Without `texts` a label is its position in `output.labels`: an object for each row is slow where they are many.

    `raw` is rows x `output.width`: a probability (binary), one for each label (multiclass), or the values themselves.
    Labels are chosen before numbers are rounded.
    """
    if output.kind in VALUE:
        return {name: _rounded(output, raw[:, i]) for i, name in enumerate(output.values)}
    if output.kind == "binary":
        probability = _calibrated(output.calibration, raw[:, 0])
        index = (probability >= (output.threshold or THRESHOLD)).astype(np.intp)
    elif output.top_k is None:
        probability, index = raw, raw.argmax(axis=1)
    else:
        # Stable: of equal ones the first label.
        index = np.argsort(-raw, axis=1, kind="stable")[:, : output.top_k]
        probability = np.take_along_axis(raw, index, axis=1)
    label = np.array(output.labels, dtype=object)[index] if texts else index
    return {"probability": _rounded(output, probability), "label": label}


def _calibrated(calibration: Platt | Isotonic | None, probability: Matrix) -> Matrix:
    if calibration is None:
        return probability
    p = probability.astype(np.float64)
    if isinstance(calibration, Isotonic):
        return np.interp(p, calibration.x, calibration.y).astype(np.float32)
    p = np.clip(p, np.finfo(np.float32).tiny, _LARGEST)
    z = calibration.slope * (np.log(p) - np.log1p(-p)) + calibration.intercept
    # 1 / (1 + exp(-z)), without an exp that overflows.
    calibrated: Matrix = np.exp(-np.logaddexp(0, -z)).astype(np.float32)
    return calibrated


def _rounded(output: Output, values: Matrix) -> Matrix:
    if output.round is None:
        return values
    # In float64: NumPy multiplies by the power of ten first.
    return np.round(values.astype(np.float64), output.round).astype(np.float32)


def encode_tensors(tensors: tuple[Tensor, ...], arrays: dict[str, Any], rows: slice) -> str:
    """Return the V2 tensors of some rows as JSON text; float32 values survive the text exactly."""
    return orjson.dumps([_tensor(t, arrays[t.name][rows]) for t in tensors], option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _tensor(tensor: Tensor, array: Any) -> dict[str, Any]:
    flat = np.ascontiguousarray(array).reshape(-1)
    data = flat.tolist() if tensor.datatype == "BYTES" else flat
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(array.shape), "data": data}
