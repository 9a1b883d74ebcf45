"""From raw predictions to named outputs."""

import json
from typing import Any

import numpy as np
import pytest

from tests.unit.builders import OUTPUTS
from workers.manifest import Output
from workers.outputs import encode_tensors, named_outputs

BINARY, MULTICLASS, REGRESSION = (Output.model_validate(output) for output in OUTPUTS.values())


def named(output: Output, *rows: list[float]) -> dict[str, Any]:
    return {name: array.tolist() for name, array in named_outputs(output, np.array(rows, dtype=np.float32)).items()}


def test_a_binary_model_gives_the_probability_of_the_second_label() -> None:
    below = float(np.nextafter(np.float32(0.5), np.float32(0)))
    assert named(BINARY, [0.25], [below], [0.5], [0.75]) == {
        "probability": [0.25, below, 0.5, 0.75],
        "label": ["no", "no", "yes", "yes"],
    }


def test_a_multiclass_model_gives_a_probability_for_each_label() -> None:
    assert named(MULTICLASS, [0.25, 0.5, 0.25], [0.75, 0.0, 0.25]) == {
        "probability": [[0.25, 0.5, 0.25], [0.75, 0.0, 0.25]],
        "label": ["green", "red"],
    }


def test_of_equal_probabilities_the_first_label_wins() -> None:
    assert named(MULTICLASS, [0.25, 0.375, 0.375], [1 / 3, 1 / 3, 1 / 3])["label"] == ["green", "red"]


def test_a_regression_gives_its_value() -> None:
    assert named(REGRESSION, [1.5], [-2]) == {"value": [1.5, -2]}


@pytest.mark.parametrize("output", [BINARY, MULTICLASS, REGRESSION], ids=["binary", "multiclass", "regression"])
def test_a_slice_is_encoded_as_tensors_of_its_rows(output: Output) -> None:
    width = len(output.labels) if output.kind == "multiclass" else 1
    raw = np.random.default_rng(1).random((5, width), dtype=np.float32)
    tensors = json.loads(encode_tensors(output.tensors, named_outputs(output, raw), slice(2, 4)))
    assert [(t["name"], t["datatype"], t["shape"][0]) for t in tensors] == [
        (t.name, t.datatype, 2) for t in output.tensors
    ]
    assert all(len(t["data"]) == np.prod(t["shape"]) for t in tensors)
    np.testing.assert_array_equal(np.array(tensors[0]["data"], dtype=np.float32), raw[2:4].ravel())


def test_every_float32_survives_the_text() -> None:
    bits = np.random.default_rng(2).integers(0, 2**32, 20_000, dtype=np.uint32).view(np.float32)
    values = bits[np.isfinite(bits)].reshape(-1, 1)
    text = encode_tensors(REGRESSION.tensors, named_outputs(REGRESSION, values), slice(None))
    read = np.array(json.loads(text)[0]["data"], dtype=np.float32)
    np.testing.assert_array_equal(read.view(np.uint32), values.ravel().view(np.uint32))
