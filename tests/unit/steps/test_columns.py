"""The output's columns."""

import numpy as np
import pyarrow as pa
import pytest

from tests.unit.builders import OUTPUTS, release
from workers.datasets import DatasetError
from workers.steps import columns

TOP = {"kind": "multiclass", "labels": ["red", "green", "blue"], "top_k": 2}


def manifest(output: dict[str, object]):  # type: ignore[no-untyped-def]
    return release(output=output).manifest


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (OUTPUTS["two"], "probability: float, label: string"),
        (OUTPUTS["three"], "probability_0: float, probability_1: float, probability_2: float, label: string"),
        (TOP, "probability_0: float, probability_1: float, label_0: string, label_1: string"),
        (OUTPUTS["number"], "value: float"),
        ({"kind": "regression", "names": ["low", "high"]}, "low: float, high: float"),
    ],
    ids=["binary", "multiclass", "some labels", "a number", "named numbers"],
)
def test_each_output_is_a_column_and_one_with_several_values_several(output: dict[str, object], expected: str) -> None:
    assert ", ".join(f"{f.name}: {f.type}" for f in columns.outputs(manifest(output))) == expected


def test_rows_that_failed_are_null_in_every_output() -> None:
    made = manifest(TOP)
    arrays = {
        "probability": np.array([[0.5, 0.25], [0.75, 0.125]], np.float32),
        "label": np.array([["red", "blue"], ["green", "red"]], dtype=object),
    }
    some = [array.to_pylist() for array in columns.predicted(made, arrays, np.array([1, 3]), 4)]
    assert some == [
        [None, 0.5, None, 0.75],
        [None, 0.25, None, 0.125],
        [None, "red", None, "green"],
        [None, "blue", None, "red"],
    ]
    every = [array.to_pylist() for array in columns.predicted(made, arrays, np.arange(2), 2)]
    assert every == [[0.5, 0.75], [0.25, 0.125], ["red", "green"], ["blue", "red"]]
    # Labels as their positions give the same.
    for texts, rows in ((some, 4), (every, 2)):
        good = np.array([1, 3]) if rows == 4 else np.arange(2)
        placed = arrays | {"label": np.array([[0, 2], [1, 0]], dtype=np.intp)}
        assert [array.to_pylist() for array in columns.predicted(made, placed, good, rows)] == texts
    none = [array.to_pylist() for array in columns.predicted(made, {}, np.arange(0), 2)]
    assert none == [[None, None]] * 4


@pytest.mark.parametrize(
    ("keep", "message"),
    [
        (["id", "label"], "keep_columns names 'label', which is also an output of the model"),
        (["probability_1"], "keep_columns names 'probability_1', which is also an output"),
        (["id", "x", "id"], "keep_columns names 'id' twice"),
    ],
)
def test_names_that_would_stand_twice_are_refused(keep: list[str], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        columns.check_names(keep, manifest(OUTPUTS["three"]))
    columns.check_names(["id", "probability"], manifest(OUTPUTS["three"]))


def test_kept_columns_are_without_dictionaries_and_notes() -> None:
    table = pa.table({"pet": pa.array(["cat", None, "cat"]).dictionary_encode()}).replace_schema_metadata({"by": "me"})
    kept = columns.kept(table)
    assert (kept.schema.metadata, kept.schema.field("pet").type) == (None, pa.string())
    assert kept["pet"].to_pylist() == ["cat", None, "cat"]
