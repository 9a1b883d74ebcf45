"""From raw predictions to named outputs."""

import json
from typing import Any

import numpy as np
import pytest

from tests.unit.builders import OUTPUTS
from workers.outputs import encode_tensors, named_outputs
from workers.template.output import Output

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


def changed(kind: str, **changes: Any) -> Output:
    return Output.model_validate(OUTPUTS[kind] | changes)


def test_several_names_are_several_outputs() -> None:
    output = changed("number", names=["low", "high"])
    assert named(output, [1, 2], [3, 4]) == {"low": [1, 3], "high": [2, 4]}
    for kind, name in (("ranking", "score"), ("survival", "time")):
        assert named(Output.model_validate({"kind": kind}), [1.5]) == {name: [1.5]}


def test_a_threshold_moves_the_label_and_not_the_probability() -> None:
    third = float(np.float32(0.3))
    below = float(np.nextafter(np.float32(0.3), np.float32(0)))
    assert named(changed("two", threshold=0.3), [below], [0.3]) == {
        "probability": [below, third],
        "label": ["no", "yes"],
    }


def test_the_most_probable_labels_come_first_and_of_equal_ones_the_first_label() -> None:
    output = changed("three", top_k=2)
    assert named(output, [0.25, 0.25, 0.5], [0.25, 0.375, 0.375]) == {
        "probability": [[0.5, 0.25], [0.375, 0.375]],
        "label": [["blue", "red"], ["green", "blue"]],
    }
    assert named(changed("three", top_k=1), [0, 1, 0]) == {"probability": [[1]], "label": [["green"]]}


def test_labels_are_chosen_before_numbers_are_rounded() -> None:
    assert named(changed("two", round=1), [0.46], [0.54], [0.5]) == {
        "probability": [float(np.float32(x)) for x in (0.5, 0.5, 0.5)],
        "label": ["no", "yes", "yes"],
    }
    assert named(changed("number", round=0), [1e30], [-2.5], [3.4e38])["value"] == [
        float(np.float32(x)) for x in (1e30, -2, 3.4e38)
    ]
    assert named(changed("number", round=9), [3.4e38])["value"] == [float(np.float32(3.4e38))]


def test_platt_calibration_is_a_line_through_the_log_odds() -> None:
    probability = np.array([0.1, 0.5, 0.9], np.float32)
    got = named(changed("two", calibration={"method": "platt", "slope": 2, "intercept": -1}), *probability[:, None])
    odds = np.log(probability.astype(float) / (1 - probability.astype(float)))
    expected = 1 / (1 + np.exp(-(2 * odds - 1)))
    np.testing.assert_allclose(got["probability"], expected, rtol=1e-7)
    assert got["label"] == ["no", "no", "yes"]
    same = named(changed("two", calibration={"method": "platt", "slope": 1, "intercept": 0}), *probability[:, None])
    np.testing.assert_array_equal(np.array(same["probability"], np.float32), probability)


def test_platt_calibration_of_certainty_is_a_number() -> None:
    for slope, expected in ((1, [0, 1]), (0, [0.5, 0.5]), (-3, [1, 0])):
        got = named(changed("two", calibration={"method": "platt", "slope": slope, "intercept": 0}), [0], [1])
        np.testing.assert_allclose(got["probability"], expected, atol=1e-7)


def test_isotonic_calibration_is_a_line_through_points() -> None:
    output = changed("two", calibration={"method": "isotonic", "x": [0.2, 0.4, 0.8], "y": [0, 0.5, 0.6]})
    got = named(output, [0.1], [0.3], [0.6], [0.9])
    np.testing.assert_allclose(got["probability"], [0, 0.25, 0.55, 0.6], atol=1e-7)
    assert got["label"] == ["no", "no", "yes", "yes"]


def test_labels_of_several_places_are_encoded_flat_with_their_shape() -> None:
    output = changed("three", top_k=2)
    raw = np.array([[0.2, 0.3, 0.5], [0.6, 0.3, 0.1]], np.float32)
    arrays = named_outputs(output, raw)
    places = named_outputs(output, raw, texts=False)["label"]
    assert [[output.labels[place] for place in row] for row in places] == arrays["label"].tolist()
    label = json.loads(encode_tensors(output.tensors, arrays, slice(None)))[1]
    assert label == {
        "name": "label",
        "datatype": "BYTES",
        "shape": [2, 2],
        "data": ["blue", "green", "red", "green"],
    }


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
