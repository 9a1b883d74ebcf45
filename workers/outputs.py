"""From raw predictions to what the client sees: the same post-processing for every model."""

from typing import Any

import numpy as np
import orjson

from workers.manifest import Output, Tensor
from workers.runtimes import Matrix


def named_outputs(output: Output, raw: Matrix) -> dict[str, Any]:
    """Return an array for each of `output.tensors`, its first axis being the rows of `raw`."""
    if output.kind == "regression":
        return {"value": raw[:, 0]}
    if output.kind == "binary":
        probability = raw[:, 0]
        index = (probability >= 0.5).astype(np.intp)
    else:
        probability = raw
        index = raw.argmax(axis=1)
    return {"probability": probability, "label": np.array(output.labels, dtype=object)[index]}


def encode_tensors(tensors: tuple[Tensor, ...], arrays: dict[str, Any], rows: slice) -> str:
    """Return the V2 tensors of some rows as JSON text; float32 values survive the text exactly."""
    return orjson.dumps([_tensor(t, arrays[t.name][rows]) for t in tensors], option=orjson.OPT_SERIALIZE_NUMPY).decode()


def _tensor(tensor: Tensor, array: Any) -> dict[str, Any]:
    data = list(array) if tensor.datatype == "BYTES" else np.ascontiguousarray(array).reshape(-1)
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(array.shape), "data": data}
