"""The manifest: what is right is read, and every kind of wrong one gives file, line and reason."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from workers.manifest import Manifest, Policy, read_manifest
from workers.template.columns import Column
from workers.template.output import Output
from workers.template.yaml_file import ManifestError

SHA = "ab" * 32
RIGHT = f"""\
template: 1
model: m
version: 1
runtime: xgboost
artifact:
  file: model.ubj
  sha256: {SHA}
columns:
- name: a
- {{name: b, type: int, range: [0, 5], missing: true}}
output:
  kind: binary
  labels: [red, blue]
policy:
  attempts: 2
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    return folder / "manifest.yaml"


def error_of(path: Path, content: str | bytes) -> ManifestError:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert caught.value.path == path
    assert str(caught.value) == f"{path}:{caught.value.line}: {caught.value.reason}"
    return caught.value


@pytest.mark.parametrize("release", ["breast_cancer/1", "churn/1", "diabetes/1", "wine/1"])
def test_the_shipped_manifests_are_right(release: str, store: Path) -> None:
    manifest = read_manifest(store / release / "manifest.yaml")
    assert f"{manifest.model}/{manifest.version}" == release
    assert (store / release / manifest.artifact.file).is_file()
    assert manifest.golden is not None
    assert (store / release / manifest.golden.file).is_file()


def test_a_right_manifest_is_read_with_its_defaults(path: Path) -> None:
    path.write_text(RIGHT)
    manifest = read_manifest(path)
    assert (manifest.model, manifest.version, manifest.device, manifest.pool) == ("m", "1", "auto", "cpu")
    assert manifest.columns[1] == Column(name="b", type="int", range=(0, 5), missing=True)
    assert (manifest.policy.attempts, manifest.policy.timeout_seconds) == (2, 30.0)


@pytest.mark.parametrize(
    ("wrong", "right", "line", "reason"),
    [
        ("template: 99", "template: 1", 1, "template: Input should be 2"),
        ("modle: m", "model: m", 1, "model: Field required"),
        ("model: Wine", "model: m", 2, "model: String should match pattern"),
        ('model: "m\\n"', "model: m", 2, "model: String should match pattern"),
        ("model: n", "model: m", 2, "'n' is not the name of its folder, 'm'"),
        ("version: 2", "version: 1", 3, "'2' is not the name of its folder, '1'"),
        ("version: 0", "version: 1", 3, "version: String should match pattern"),
        ("version: 1.5", "version: 1", 3, "version: Input should be a valid string"),
        ("version: true", "version: 1", 3, "version: Input should be a valid string"),
        ("version: 0x" + "f" * 5000, "version: 1", 3, "version: Value error"),
        ("runtime: pickle", "runtime: xgboost", 4, "runtime: Input should be 'xgboost'"),
        ("file: ../m/model.ubj", "file: model.ubj", 6, "artifact.file: String should match pattern"),
        ("file: /etc/passwd", "file: model.ubj", 6, "artifact.file: String should match pattern"),
        ("file: ..", "file: model.ubj", 6, "artifact.file: String should match pattern"),
        ("file: " + "x" * 300, "file: model.ubj", 6, "artifact.file: String should match pattern"),
        ("sha256: ABC", f"sha256: {SHA}", 7, "artifact.sha256: String should match pattern"),
        ("sha265: " + SHA, f"sha256: {SHA}", 5, "artifact.sha256: Field required"),
        ("- name: a\n- name: a", "- name: a", 8, "columns: Value error, column 'a' is listed twice"),
        ("- name: ''", "- name: a", 9, "columns.0.name: String should match pattern"),
        ('- name: "a\\ud800"', "- name: a", 9, "columns.0.name: "),
        ("- name: [a]", "- name: a", 9, "columns.0.name: Input should be a valid string"),
        ("type: text", "type: int", 10, "columns.1.type: Input should be 'float', 'int' or 'category'"),
        ("colour: red", "missing: true", 10, "columns.1.colour: Extra inputs are not permitted"),
        ("range: [5, 0]", "range: [0, 5]", 10, "range is [lowest, highest]"),
        ("range: [0, .inf]", "range: [0, 5]", 10, "range is [lowest, highest]"),
        ("range: [.nan, 5]", "range: [0, 5]", 10, "range is [lowest, highest]"),
        ("range: [0, 1.0e+39]", "range: [0, 5]", 10, "range is [lowest, highest]"),
        ("range: [0, 1" + "0" * 400 + "]", "range: [0, 5]", 10, "columns.1.range.1: Input should be a valid number"),
        ("range: [0]", "range: [0, 5]", 10, "columns.1.range"),
        ("kind: clustering", "kind: binary", 12, "output.kind: Input should be"),
        ("kind: multiclass", "kind: binary", 11, "multiclass doesn't go with 2 labels"),
        ("kind: regression", "kind: binary", 11, "regression doesn't go with 2 labels"),
        ("labels: [red]", "labels: [red, blue]", 11, "binary doesn't go with 1 labels"),
        ("labels: [red, red]", "labels: [red, blue]", 11, "labels must differ"),
        ("labels: [no, yes]", "labels: [red, blue]", 13, "output.labels.0: Input should be a valid string"),
        ("attempts: 0", "attempts: 2", 15, "policy.attempts: Input should be greater than or equal to 1"),
        ("attempts: many", "attempts: 2", 15, "policy.attempts: Input should be a valid integer"),
        ("- a", "- name: a", 9, "columns.0: Input should be a valid"),
        ("range: [0, 5], default: 6", "range: [0, 5]", 10, "default is outside the range"),
        ("default: 0.5", "range: [0, 5]", 10, "default is a whole number of at most 16,777,216"),
        ("default: 16777217", "range: [0, 5]", 10, "default is a whole number of at most 16,777,216"),
        ("default: none", "range: [0, 5]", 10, "default is a number for a column of numbers"),
        ("default: .nan", "range: [0, 5]", 10, "columns.1.default"),
        ("type: category, categories: [x], default: y", "type: int, range: [0, 5]", 10, "none of the categories"),
        ("labels: [red, blue]\n  threshold: 1", "labels: [red, blue]", 14, "output.threshold: Input should be less"),
        ("labels: [red, blue]\n  top_k: 1", "labels: [red, blue]", 11, "top_k goes with multiclass"),
        ("labels: [red, blue]\n  names: [x]", "labels: [red, blue]", 11, "binary has labels and no names"),
        ("kind: regression\n  names: [contributions]", "kind: binary\n  labels: [red, blue]", 11, "'contributions' is"),
        ("kind: ranking\n  names: [x, y]", "kind: binary\n  labels: [red, blue]", 11, "ranking has one number a row"),
        ("kind: regression\n  threshold: 0.5", "kind: binary\n  labels: [red, blue]", 11, "threshold goes with binary"),
        ("labels: [red, blue]\n  round: -1", "labels: [red, blue]", 14, "output.round: Input should be greater"),
        (
            "labels: [red, blue]\n  calibration:\n    method: isotonic\n    x: [0, 0]\n    y: [0, 1]",
            "labels: [red, blue]",
            14,
            "x rises from number to number",
        ),
        (
            "labels: [red, blue]\n  calibration:\n    method: isotonic\n    x: [0, 1]\n    y: [0, 2]",
            "labels: [red, blue]",
            17,
            "y.1: Input should be less",
        ),
        ("labels: [red, blue]\ntree_range: [5, 5]", "labels: [red, blue]", 1, "tree_range is [first, end]"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_wrong_value_is_reported_with_its_line(path: Path, wrong: str, right: str, line: int, reason: str) -> None:
    assert right in RIGHT
    error = error_of(path, RIGHT.replace(right, wrong, 1))
    assert (error.line, reason in error.reason) == (line, True), error.reason


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ("speed: fast", "speed: Extra inputs are not permitted"),
        ("model: m", "model: given twice"),
        ("x: [1]]", "expected <block end>, but found ']'"),
        ("\tx: 1", "found character '\\t' that cannot start any token"),
        ("x: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
        ("x: !secret y", "could not determine a constructor for the tag '!secret'"),
        ("? [a]\n: b", "a key is plain text"),
        ("? {a: b}\n: b", "a key is plain text"),
        ("? !!str [a]\n: b", "a key is plain text"),
        ("1: b", "a key is plain text"),
        ("null: b", "a key is plain text"),
        ("<<: {description: merged}", "a key is plain text"),
        ("x: &x [*x]", "aliases aren't read here"),
        ("x: *nowhere", "aliases aren't read here"),
        ("x: 2020-99-99", "this is no timestamp: month must be in 1..12"),
        ("x: !!int ''", "this is no int"),
        ("x: !!bool maybe", "this is no bool"),
        ("x: !!timestamp soon", "this is no timestamp"),
        ("x: " + "9" * 5000, "this is no int"),
        ("x: \x07", "character #x7: special characters are not allowed"),
        ("--- {}", "but found another document"),
        ('description: "\\0"', "description: String should match pattern"),
        ('description: "\\ud800"', "description: "),
        ("description: 2020-01-01", "description: Input should be a valid string"),
        ("golden: ../golden.json", "golden.file: String should match pattern"),
    ],
    ids=lambda value: value[:40],
)
def test_a_wrong_line_is_reported_with_its_number(path: Path, extra: str, reason: str) -> None:
    error = error_of(path, f"{RIGHT}{extra}\n")
    assert (error.line, reason in error.reason) == (16, True), str(error)


def test_text_that_is_not_utf_8_is_reported_with_its_line(path: Path) -> None:
    error = error_of(path, RIGHT.encode() + b"description: \xff\n")
    assert (error.line, error.reason) == (16, "not UTF-8: invalid start byte")


@pytest.mark.parametrize("content", ["", "# nothing\n", "- a\n- b\n", "text", "42", "null"])
def test_a_file_without_a_mapping_is_reported(path: Path, content: str) -> None:
    error = error_of(path, content)
    assert (error.line, "expected a mapping" in error.reason) == (1, True)


def test_aliases_that_would_explode_are_refused_before_they_do(path: Path) -> None:
    bomb = "\n".join(f"x{i}: &n{i} [{', '.join([f'*n{i - 1}'] * 9)}]" for i in range(1, 30))
    assert error_of(path, f"{RIGHT}x0: &n0 [1]\n{bomb}\n").reason == "aliases aren't read here"


def test_endless_nesting_is_reported(path: Path) -> None:
    assert error_of(path, f"{RIGHT}x: {'[' * 3000}{']' * 3000}\n").reason == "nested too deeply"


def test_a_manifest_that_can_not_be_opened_is_reported(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ManifestError, match="Is a directory"):
        read_manifest(path)


@given(st.data())
def test_whatever_is_in_the_file_the_error_is_a_manifest_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "m" / "1" / "manifest.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    yaml_soup = st.text(alphabet=st.sampled_from(":-[]{}&*!|>?'\"#%@`,\n ax10.~<="), max_size=40)
    position = data.draw(st.integers(0, len(RIGHT)))
    inserted = data.draw(yaml_soup | st.text(max_size=10)).encode("utf-8", "surrogatepass")
    path.write_bytes(RIGHT[:position].encode() + inserted + RIGHT[position:].encode())
    try:
        assert isinstance(read_manifest(path), Manifest)
    except ManifestError as error:
        assert 1 <= error.line <= path.read_bytes().count(b"\n") + 2


def test_outputs_are_named_by_their_kind() -> None:
    def shapes(**output: Any) -> list[tuple[str, tuple[int, ...]]]:
        return [(tensor.name, tensor.shape) for tensor in Output.model_validate(output).tensors]

    assert shapes(kind="regression") == [("value", ())]
    assert shapes(kind="regression", names=["low", "high"]) == [("low", ()), ("high", ())]
    assert shapes(kind="ranking") == [("score", ())]
    assert shapes(kind="survival") == [("time", ())]
    assert shapes(kind="binary", labels=["a", "b"]) == [("probability", ()), ("label", ())]
    assert shapes(kind="multiclass", labels=["a", "b", "c"]) == [("probability", (3,)), ("label", ())]
    assert shapes(kind="multiclass", labels=["a", "b", "c"], top_k=2) == [("probability", (2,)), ("label", (2,))]


def test_no_model_may_take_as_long_as_rabbitmq_lets_a_message_be_held() -> None:
    half_an_hour = 1800.0  # its consumer_timeout, by default; what goes before and after takes time too
    with pytest.raises(ValidationError):
        Policy(timeout_seconds=half_an_hour / 2)
