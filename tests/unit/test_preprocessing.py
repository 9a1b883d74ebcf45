"""Pre-processing: each step does what it says, row by row, and what it can't do has a name."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.unit.builders import manifest_dict
from workers.manifest import Manifest, read_manifest
from workers.preprocessing import BadData, BadRow, Matrix, Pipeline, Prepared, StepError
from workers.template.yaml_file import ManifestError

NAN = float("nan")
COLUMNS = [
    {"name": "a", "missing": True},
    {"name": "b", "missing": True},
    {"name": "c", "type": "category", "categories": ["red", "green", "blue"], "missing": True},
]
ROWS = [[1.5, -2.5, 0], [NAN, 4, 2], [0, NAN, NAN]]
CALL = "tests.unit.custom_steps:"


def pipeline(*steps: dict[str, Any], **changes: Any) -> Pipeline:
    return Pipeline(Manifest.model_validate(manifest_dict(columns=COLUMNS, preprocessing=steps, **changes)))


def matrix(rows: list[list[float]]) -> Matrix:
    values = np.array(rows, dtype="<f4")
    values.setflags(write=False)  # as a bundle's bytes are
    return values


def applied(*steps: dict[str, Any], rows: list[list[float]] = ROWS, **changes: Any) -> tuple[tuple[str, ...], Prepared]:
    made = pipeline(*steps, **changes)
    result = made.apply(matrix(rows))
    assert result.features.dtype == np.float32
    assert result.features.flags.c_contiguous
    assert result.features.shape == (len(rows), len(made.features))
    return made.features, result


def column(name: str, *steps: dict[str, Any]) -> list[float]:
    names, result = applied(*steps)
    values: list[float] = result.features[:, names.index(name)].tolist()
    return values


def same(values: list[float], expected: list[float]) -> None:
    np.testing.assert_array_equal(np.array(values, np.float32), np.array(expected, np.float32))


def test_without_steps_the_features_are_the_columns() -> None:
    names, result = applied()
    assert (names, result.margin) == (("a", "b", "c"), None)
    np.testing.assert_array_equal(result.features, np.array(ROWS, np.float32))
    assert pipeline().categories == {"c": ("red", "green", "blue")}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ({"step": "cast", "to": "int"}, [-2, 4, NAN]),
        ({"step": "cast", "to": "bool"}, [1, 1, NAN]),
        ({"step": "fill", "value": 7.5}, [-2.5, 4, 7.5]),
        ({"step": "clip", "low": -1}, [-1, 4, NAN]),
        ({"step": "clip", "high": 3}, [-2.5, 3, NAN]),
        ({"step": "clip", "low": -2, "high": 2}, [-2, 2, NAN]),
        ({"step": "log", "plus": 3}, [float(np.log(0.5)), float(np.log(7)), NAN]),
        ({"step": "scale", "center": 1, "scale": 2}, [-1.75, 1.5, NAN]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_step_changes_the_values_of_its_columns_alone(step: dict[str, Any], expected: list[float]) -> None:
    step |= {"columns": ["b"]}
    same(column("b", step), expected)
    same(column("a", step), [1.5, NAN, 0])
    same(column("c", step), [0, 2, NAN])


def test_steps_come_one_after_the_other() -> None:
    fill = {"step": "fill", "columns": ["a"], "value": 3}
    log = {"step": "log", "columns": ["a"], "plus": 1}
    same(column("a", fill, log), [np.log(2.5), np.log(4), 0])


def test_a_step_is_rounded_to_float32_only_once() -> None:
    made = pipeline({"step": "scale", "columns": ["a"], "center": 0.1, "scale": 0.3})
    given = matrix([[0.7, 0, 0]])
    expected = np.float32((float(given[0, 0]) - 0.1) / 0.3)
    assert made.apply(given).features[0, 0] == expected
    assert expected != (given[0, 0] - np.float32(0.1)) / np.float32(0.3)


def test_select_keeps_columns_in_its_own_order() -> None:
    names, result = applied({"step": "select", "columns": ["c", "a"]})
    assert names == ("c", "a")
    np.testing.assert_array_equal(result.features, matrix(ROWS)[:, [2, 0]])
    assert pipeline({"step": "select", "columns": ["a"]}).categories == {}


def test_one_hot_puts_a_column_for_each_category_in_the_place_of_the_column() -> None:
    names, result = applied({"step": "one_hot", "column": "c"}, {"step": "select", "columns": ["c=blue", "c=red", "a"]})
    assert names == ("c=blue", "c=red", "a")
    np.testing.assert_array_equal(result.features[:, :2], [[0, 1], [1, 0], [0, 0]])
    assert pipeline({"step": "one_hot", "column": "c"}).features == ("a", "b", "c=red", "c=green", "c=blue")


def test_codes_are_numbers_for_categories_and_missing_stays_missing() -> None:
    step = {"step": "codes", "column": "c", "codes": {"blue": 30, "red": 10.5, "green": 20}}
    same(column("c", step), [10.5, 30, NAN])
    assert pipeline(step).categories == {}
    same(column("c", step, {"step": "fill", "columns": ["c"], "value": 0}), [10.5, 30, 0])


def test_the_base_margin_is_no_feature() -> None:
    names, result = applied(
        {"step": "fill", "columns": ["b"], "value": 9}, base_margin=["b"], output={"kind": "regression"}
    )
    assert names == ("a", "c")
    assert result.margin is not None
    assert result.margin.flags.c_contiguous
    same(result.margin[:, 0].tolist(), [-2.5, 4, 9])


def test_a_missing_base_margin_is_bad_data() -> None:
    with pytest.raises(BadData, match="row 2, column 'b': the base margin is missing"):
        applied(base_margin=["b"], output={"kind": "regression"})


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"step": "log", "columns": ["a", "b"]}, r"row 2, column 'a': step 0 \(log\) makes no finite number of 0"),
        ({"step": "log", "columns": ["b"]}, r"row 0, column 'b': step 0 \(log\) makes no finite number of -2.5"),
        ({"step": "scale", "columns": ["b"], "scale": 1e-38}, r"row 1, column 'b': step 0 \(scale\) .* of 4"),
    ],
    ids=["a logarithm of 0", "a logarithm of a negative", "an overflow"],
)
def test_a_value_of_which_a_step_makes_no_number_is_bad_data(step: dict[str, Any], message: str) -> None:
    with pytest.raises(BadData, match=message):
        applied(step)


def test_a_missing_value_in_one_column_hides_no_bad_one_in_another() -> None:
    with pytest.raises(BadData, match="row 0, column 'b'"):
        applied({"step": "log", "columns": ["a", "b"]}, rows=[[NAN, -1, 0]])


def test_all_rows_that_fail_for_one_reason_are_named_at_once() -> None:
    with pytest.raises(BadData, match="^row 0, column 'a': step 0") as caught:
        applied({"step": "log", "columns": ["b", "a"]}, rows=[[-1, 1, 0], [1, 0, 0], [1, 1, 0], [-1, -1, 0]])
    reason = "step 0 (log) makes no finite number of"
    assert caught.value.rows == (BadRow(0, "a", f"{reason} -1"), BadRow(3, "a", f"{reason} -1"))
    with pytest.raises(BadData) as caught:
        applied(base_margin=["b"], output={"kind": "regression"}, rows=[[0, NAN, 0], [0, 1, 0], [0, NAN, 0]])
    assert [row.row for row in caught.value.rows] == [0, 2]


def test_a_custom_step_gets_its_columns_and_adds_or_replaces_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_STEP_PACKAGES", "elsewhere, tests.unit")
    step = {"step": "custom", "call": f"{CALL}ratio", "columns": ["a", "b"], "returns": ["ratio", "b"]}
    names, result = applied(step)
    assert names == ("a", "b", "c", "ratio")
    np.testing.assert_array_equal(
        result.features,
        np.array([[1.5, -1.5, 0, 1.5 / -2.5], [NAN, 5, 2, NAN], [0, NAN, NAN, NAN]], np.float32),
    )
    with pytest.raises(BadData, match=r"row 0, column 'ratio': step 0 \(custom\) makes no finite number of 1, 0"):
        applied(step, rows=[[1, 0, 0]])
    with pytest.raises(BadData, match=r"column 'ratio': step 0 \(custom\) makes no finite number of 0, 0"):
        applied(step, rows=[[0, 0, 0]])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("returns_none", r"expected a dict with the columns \['ratio', 'b'\], got NoneType"),
        ("returns_too_little", r"expected a dict with the columns \['ratio', 'b'\], got \['b'\]"),
        ("returns_float64", "column 'ratio': expected 3 values of float32"),
        ("returns_one_row", "column 'ratio': expected 3 values of float32"),
        ("returns_a_list", "column 'ratio': expected 3 values of float32"),
        ("raises", r"step 0 \(custom\): .*:raises raised KeyError\('no'\)"),
    ],
)
def test_what_a_custom_step_does_wrong_is_named(monkeypatch: pytest.MonkeyPatch, function: str, message: str) -> None:
    monkeypatch.setenv("MODEL_STEP_PACKAGES", "tests.unit.custom_steps")
    step = {"step": "custom", "call": CALL + function, "columns": ["a", "b"], "returns": ["ratio", "b"]}
    with pytest.raises(StepError, match=message):
        applied(step)


@pytest.mark.parametrize(
    ("allowed", "call", "message"),
    [
        ("", f"{CALL}ratio", "MODEL_STEP_PACKAGES doesn't name its package"),
        ("tests.unit.custom,test,unit", f"{CALL}ratio", "MODEL_STEP_PACKAGES doesn't name its package"),
        ("tests", "os:system", "MODEL_STEP_PACKAGES doesn't name its package"),
        ("tests", "tests.unit.nowhere:x", "it can't be imported: ModuleNotFoundError"),
        ("tests", f"{CALL}nothing", "it can't be imported: AttributeError"),
        ("tests", f"{CALL}NOTHING", "this is nothing that can be called"),
    ],
)
def test_a_custom_step_is_imported_from_an_allowed_package_only(
    monkeypatch: pytest.MonkeyPatch, allowed: str, call: str, message: str
) -> None:
    monkeypatch.setenv("MODEL_STEP_PACKAGES", allowed)
    with pytest.raises(StepError, match=message):
        pipeline({"step": "custom", "call": call, "columns": ["a"], "returns": ["x"]})


HEAD = """\
template: 2
model: m
version: 1
runtime: xgboost
artifact: {file: model.ubj, sha256: SHA}
columns:
- {name: a, missing: true}
- {name: b}
- {name: c, type: category, categories: [red, green]}
output: {kind: multiclass, labels: [x, y, z]}
""".replace("SHA", "ab" * 32)


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        (
            "- {step: select, columns: [a, x]}",
            12,
            "preprocessing.0.columns.1: there is no column 'x' here, but a, b, c",
        ),
        ("- {step: select, columns: [a, b, a]}", 12, "two columns of the name 'a'"),
        ("- {step: select, columns: [a]}\n- {step: fill, columns: [b], value: 1}", 13, "there is no column 'b' here"),
        ("- step: select\n  columns: []", 13, "preprocessing.0.select.columns"),
        ("- step: log\n  columns:\n  - a\n  - c", 15, "log takes numbers, and 'c' holds categories"),
        ("- {step: one_hot, column: a}", 12, "one_hot takes a column of categories, and 'a' holds numbers"),
        ("- {step: one_hot, column: c}\n- {step: one_hot, column: c}", 13, "there is no column 'c' here"),
        ("- step: codes\n  column: c\n  codes: {red: 1}", 14, "there is no code for the category 'green'"),
        (
            "- step: codes\n  column: c\n  codes:\n    red: 1\n    green: 2\n    pink: 3",
            17,
            "'pink' is no category of the column 'c'",
        ),
        (
            "- {step: codes, column: b, codes: {red: 1}}",
            12,
            "codes takes a column of categories, and 'b' holds numbers",
        ),
        ("- {step: codes, column: c, codes: {red: .inf, green: 1}}", 12, "preprocessing.0.codes.codes.red"),
        ("- {step: custom, call: x, columns: [a], returns: [z]}", 12, "preprocessing.0.custom.call"),
        ("- {step: custom, call: 'x:y', columns: [q], returns: [z]}", 12, "there is no column 'q' here"),
        ("- {step: custom, call: 'x:y', columns: [a], returns: [z, z]}", 12, "two columns of the name 'z'"),
        ("- {step: scale, columns: [a], scale: 0}", 12, "scale is what is divided by, and not 0"),
        ("- {step: clip, columns: [a]}", 12, "clip needs low or high"),
        ("- {step: pca, columns: [a]}", 12, "preprocessing.0: Input tag 'pca'"),
        ("- {step: fill, columns: [a], value: 1}\nbase_margin:\n- a\n- z", 15, "base_margin.1: there is no column 'z'"),
        (
            "- {step: fill, columns: [a], value: 1}\nbase_margin: [a]",
            13,
            "1 columns, but the output has 3 numbers a row",
        ),
        ("- {step: fill, columns: [a], value: 1}\nbase_margin: [a, b, c]", 13, "'c' holds categories, not numbers"),
        ("- {step: fill, columns: [a], value: 1}\nbase_margin: [a, b, b]", 13, "two columns of the name 'b'"),
        (
            "- {step: codes, column: c, codes: {red: 1, green: 2}}\nbase_margin: [a, b, c]",
            13,
            "no column is left for the model",
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_steps_that_do_not_go_with_the_columns_are_refused_with_their_line(
    tmp_path: Path, lines: str, line: int, reason: str
) -> None:
    path = tmp_path / "m" / "1" / "manifest.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(f"{HEAD}preprocessing:\n{lines}\n")
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert (caught.value.line, reason in caught.value.reason) == (line, True), str(caught.value)


def test_more_columns_than_a_model_may_have_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m" / "1" / "manifest.yaml"
    path.parent.mkdir(parents=True)
    data = yaml.safe_load(HEAD)
    data["columns"][2]["categories"] = [str(i) for i in range(10_000)]
    path.write_text(yaml.safe_dump(data | {"preprocessing": [{"step": "one_hot", "column": "c"}]}))
    with pytest.raises(ManifestError, match="10,002 columns after this step; there may be 10,000"):
        read_manifest(path)
