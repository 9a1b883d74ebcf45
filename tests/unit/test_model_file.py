"""Model files read without XGBoost: what they hold, and that no broken one reaches the native loader."""

import copy
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from tests.unit import boosters, builders
from workers.model_file import ModelFile, reader, ubjson
from workers.model_file.parts import ModelFileError
from workers.model_file.reader import read_model
from workers.model_file.trees import MAX_DEPTH

Document = dict[str, Any]
MUTATIONS = 300


@pytest.fixture(scope="module")
def document() -> Document:
    """A model with splits by category, as JSON data."""
    data: Document = json.loads(boosters.saved(boosters.train("categories"), "json"))
    return data


def refused(data: bytes) -> str:
    with pytest.raises(ModelFileError) as caught:
        read_model(data)
    return str(caught.value)


def as_json(document: Document) -> bytes:
    return json.dumps(document).encode()


@pytest.mark.parametrize("form", ["ubj", "json"])
@pytest.mark.parametrize("kind", boosters.KINDS)
def test_every_kind_of_model_is_read_in_both_forms(kind: str, form: str) -> None:
    booster = boosters.train(kind)
    found = read_model(boosters.saved(booster, form))
    output = boosters.KINDS[kind].output
    assert (found.format, found.rounds, found.features) == (form, booster.num_boosted_rounds(), 4)
    assert found.feature_names == tuple(boosters.NAMES)
    assert found.version == tuple(int(part) for part in xgboost.__version__.split("."))
    columns = [{"name": name} for name in boosters.NAMES]
    if booster.feature_types:
        columns[2] |= {"type": "int"}
        assert found.feature_types == tuple(booster.feature_types)
    manifest = builders.release(columns=columns, output=output).manifest
    assert found.faults(manifest) == []
    assert found.width == manifest.output.width


def fault(found: ModelFile, **changes: Any) -> str:
    columns = [{"name": name} for name in boosters.NAMES]
    manifest = builders.release(**{"columns": columns, "output": {"kind": "regression"}} | changes).manifest
    (text,) = found.faults(manifest)
    return text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"columns": [{"name": "a"}]}, "columns: the model takes 4 columns, the manifest lists 1"),
        ({"columns": [{"name": n} for n in "abdc"]}, "number 3 is 'd' here and 'c' in the file"),
        ({"output": builders.OUTPUTS["two"]}, "output.kind: the file's objective reg:squarederror is for regression"),
        ({"output": {"kind": "regression", "names": ["x", "y"]}}, "output.names: the model gives 1 values a row"),
        ({"tree_range": [0, 7]}, "tree_range: it ends at 7, the file has 6 rounds"),
    ],
)
def test_a_manifest_that_says_something_else_is_told_so(changes: dict[str, Any], reason: str) -> None:
    assert reason in fault(read_model(boosters.saved(boosters.train("reg:squarederror"))), **changes)


def test_a_linear_model_has_no_tree_range() -> None:
    assert "no trees" in fault(read_model(boosters.saved(boosters.train("gblinear"))), tree_range=[0, 1])


def test_a_best_iteration_asks_for_a_tree_range() -> None:
    booster = boosters.train("reg:squarederror")
    booster.set_attr(best_iteration="2")
    found = read_model(boosters.saved(booster))
    assert (found.best_iteration, found.tree_range) == (2, (0, 3))
    assert "write tree_range: [0, 3], or [0, 6] for all trees" in fault(found)
    columns = [{"name": name} for name in boosters.NAMES]
    for chosen in ([0, 3], [0, 6]):
        manifest = builders.release(columns=columns, output={"kind": "regression"}, tree_range=chosen).manifest
        assert found.faults(manifest) == []


def test_categories_are_the_model_s() -> None:
    words = pa.array([["red", "grün", "blue"][i % 3] for i in range(90)]).dictionary_encode()
    table = pa.table({"size": pa.array(np.arange(90) % 7, pa.float32()), "colour": words})
    data = xgboost.DMatrix(table, label=np.arange(90) % 3, enable_categorical=True)
    found = read_model(boosters.saved(xgboost.train({"max_cat_to_onehot": 1, "nthread": 1}, data, 3)))
    assert found.categories == {1: ("red", "grün", "blue")}
    colour = {"name": "colour", "type": "category", "categories": ["red", "blue", "grün"]}
    changes = {"columns": [{"name": "size"}, colour]}
    assert "the categories are not the model's, in the model's order: red, grün, blue" in fault(found, **changes)
    changes = {"columns": [{"name": "size"}, {"name": "colour"}]}
    assert "columns.colour: the model takes categories there, the manifest's column is float" in fault(found, **changes)


def test_a_column_has_as_many_categories_as_the_model() -> None:
    found = read_model(boosters.saved(boosters.train("categories")))
    assert found.codes == {2: 5}
    columns = [{"name": name} for name in boosters.NAMES]
    columns[2] |= {"type": "category", "categories": list("vwx")}  # type: ignore[dict-item]
    reason = fault(found, columns=columns)
    assert reason == "columns.c: the model knows a category number 5 (from 0), the manifest lists 3"


def _node(document: Document, key: str, place: int, value: Any) -> None:
    document["learner"]["gradient_booster"]["model"]["trees"][1][key][place] = value


HOSTILE: dict[str, tuple[Callable[[Document], None], str]] = {
    "a cycle": (lambda d: _node(d, "left_children", 1, 1), "model.trees[1].node"),
    "a way back to the root": (lambda d: _node(d, "left_children", 1, 0), "node 1: a child that isn't in the tree"),
    "a child beyond the end": (lambda d: _node(d, "right_children", 0, 99), "node 0: a child that isn't in the tree"),
    "a child before the start": (lambda d: _node(d, "right_children", 0, -5), "node 0: a child that isn't in the tree"),
    "two ways to one node": (lambda d: _node(d, "right_children", 0, 1), "node 1: two ways lead to it"),
    "another parent": (lambda d: _node(d, "parents", 1, 2), "node 1: its parent is another node"),
    "a feature beyond the last": (lambda d: _node(d, "split_indices", 0, 4), "node 0: expected feature 0 to 3"),
    "a negative feature": (lambda d: _node(d, "split_indices", 0, -1), "node 0: expected feature 0 to 3"),
    "a weight that is no number": (lambda d: _node(d, "base_weights", 2, float("nan")), "number 2 is not finite"),
    "an infinite threshold": (
        lambda d: _node(d, "split_conditions", 0, float("inf")),
        "node 0: its threshold or value is not",
    ),
    "a weight too large": (lambda d: _node(d, "base_weights", 0, 1e300), "number 0 is not finite"),
    "a text for a weight": (lambda d: _node(d, "base_weights", 0, "1"), "base_weights: expected a list of numbers"),
    "a fraction for a child": (lambda d: _node(d, "left_children", 0, 1.5), "left_children: expected whole numbers"),
    "a huge number": (lambda d: _node(d, "left_children", 0, 10**30), "left_children: expected a list of numbers"),
    "a short list": (
        lambda d: d["learner"]["gradient_booster"]["model"]["trees"][0]["split_type"].pop(),
        "model.trees[0].split_type: expected",
    ),
    "a huge category": (
        lambda d: d["learner"]["gradient_booster"]["model"]["trees"][0]["categories"].__setitem__(0, 2**31 - 2),
        "categories: expected 0 to",
    ),
    "categories of no node": (
        lambda d: d["learner"]["gradient_booster"]["model"]["trees"][0]["categories_nodes"].__setitem__(0, 77),
        "categories_nodes: expected the nodes that split by category",
    ),
    "more trees than there are": (
        lambda d: d["learner"]["gradient_booster"]["model"]["gbtree_model_param"].update(num_trees="7"),
        "num_trees: expected a whole number from 6 to 6",
    ),
    "a tree of no output": (
        lambda d: d["learner"]["gradient_booster"]["model"]["tree_info"].__setitem__(0, 3),
        "tree_info: expected 0 to 0",
    ),
    "rounds beyond the trees": (
        lambda d: d["learner"]["gradient_booster"]["model"]["iteration_indptr"].__setitem__(2, 400),
        "iteration_indptr: expected numbers that rise",
    ),
    "another number of features": (
        lambda d: d["learner"]["learner_model_param"].update(num_feature="2"),
        "feature_names: expected 2, got 4",
    ),
    "classes without an objective": (
        lambda d: d["learner"]["learner_model_param"].update(num_class="3"),
        "num_class: reg:squarederror with 3 classes",
    ),
    "no base score": (
        lambda d: d["learner"]["learner_model_param"].update(base_score="[nan]"),
        "base_score: expected finite numbers",
    ),
    "an objective from nowhere": (
        lambda d: d["learner"]["objective"].update(name="reg"),
        "objective.name: 'reg' is none that is served here",
    ),
    "another booster": (
        lambda d: d["learner"]["gradient_booster"].update(name="gbm"),
        "'gbm' is none of gbtree, dart, gblinear",
    ),
    "a best iteration beyond the last": (
        lambda d: d["learner"]["attributes"].update(best_iteration="6"),
        "best_iteration: expected a whole number from 0 to 5",
    ),
    "a newer XGBoost": (lambda d: d.update(version=[99, 0, 0]), "saved by XGBoost 99.0.0, newer than"),
    "no learner": (lambda d: d.pop("learner"), "not a model of XGBoost"),
}


def test_trees_of_several_numbers_in_their_old_form_are_refused() -> None:
    """XGBoost 3.2 dies of them."""
    old = json.loads(boosters.saved(boosters.train("several targets in one tree"), "json"))
    for tree in old["learner"]["gradient_booster"]["model"]["trees"]:
        del tree["leaf_weights"]
    assert "XGBoost before 3.2 saved such trees in another form" in refused(as_json(old))


def test_a_split_by_category_needs_no_threshold(document: Document) -> None:
    """XGBoost 2.1 saved it as NaN."""
    old = copy.deepcopy(document)
    for tree in old["learner"]["gradient_booster"]["model"]["trees"]:
        for node in tree["categories_nodes"]:
            tree["split_conditions"][node] = float("nan")
    read_model(as_json(old))


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused_with_the_place(document: Document, what: str) -> None:
    change, reason = HOSTILE[what]
    hostile = copy.deepcopy(document)
    change(hostile)
    assert reason in refused(as_json(hostile))


def test_a_tree_without_an_end_is_refused(document: Document) -> None:
    deep = copy.deepcopy(document)
    (tree, *_) = deep["learner"]["gradient_booster"]["model"]["trees"]
    inner = MAX_DEPTH + 1
    size = 2 * inner + 1
    tree.update({key: [] for key in ("categories", "categories_nodes", "categories_segments", "categories_sizes")})
    for key in ("base_weights", "split_conditions", "loss_changes", "sum_hessian"):
        tree[key] = [0.5] * size
    for key in ("default_left", "split_type", "split_indices"):
        tree[key] = [0] * size
    # Each inner node has a leaf at its left and the next one at its right.
    tree["left_children"] = [n for i in range(inner) for n in (2 * i + 1, -1)] + [-1]
    tree["right_children"] = [n for i in range(inner) for n in (2 * i + 2, -1)] + [-1]
    tree["parents"] = [2147483647] + [2 * i for i in range(inner) for _ in range(2)]
    tree["tree_param"]["num_nodes"] = str(size)
    assert f"deeper than {MAX_DEPTH} levels" in refused(as_json(deep))


def test_what_is_no_model_is_recognised_and_told_how_to_convert() -> None:
    booster = boosters.train("reg:squarederror")
    assert refused(b"") == "the file is empty"
    assert "this is a pickle" in refused(pickle.dumps(booster))
    old = b"\x00\x00\x00\x3f" + b"\x00" * 132 + b"\x0f\x00\x00\x00\x00\x00\x00\x00binary:logistic\x06" + b"\x00" * 7
    for binary in (old + b"gbtree", b"binf" + old):
        assert "XGBoost's old binary form" in refused(binary)
    assert "a dump of trees" in refused(b"booster[0]:\n0:[f0<1] yes=1,no=2,missing=1\n")
    assert "neither UBJ nor JSON" in refused(b"PAR1....")
    assert "not a model of XGBoost" in refused(b"{}")
    assert "a key is there twice" in refused(b'{"learner": 1, "learner": 2}')
    assert "not a sound JSON file" in refused(b'{"learner": ' + b"[" * 100_000)
    assert "nested deeper" in refused(b"{L" + (7).to_bytes(8, "big") + b"learner" + b"[" * 100_000)


@pytest.mark.parametrize("form", ["ubj", "json"])
def test_every_truncation_is_refused(form: str) -> None:
    data = boosters.saved(boosters.train("categories", rounds=1), form)
    for length in range(0, len(data), 7):
        refused(data[:length])
    refused(data + b"}")


def test_a_length_beyond_the_file_takes_no_memory() -> None:
    for body in (b"[$d#", b"[#", b"S"):
        with pytest.raises(ubjson.UbjsonError, match="truncated"):
            ubjson.loads(body + b"L" + (2**62).to_bytes(8, "big"))
    with pytest.raises(ubjson.UbjsonError, match="a length of -1"):
        ubjson.loads(b"Si\xff")


LOADS_ALL = """
import sys
from pathlib import Path
import numpy, xgboost
rows = numpy.load(sys.argv[1])
for path in sorted(Path(sys.argv[2]).iterdir()):
    print(path.name, flush=True)
    try:
        booster = xgboost.Booster(model_file=bytearray(path.read_bytes()))
        booster.set_param({"nthread": 1})
        data = xgboost.DMatrix(rows, feature_names=booster.feature_names, feature_types=booster.feature_types)
        booster.predict(data)
        booster.predict(data, pred_contribs=True)
    except xgboost.core.XGBoostError:
        pass
"""


@pytest.mark.parametrize("kind", ["categories", "dart", "several targets in one tree", "gblinear"])
def test_a_damaged_file_is_refused_or_harmless(tmp_path: Path, kind: str) -> None:
    """XGBoost alone dies of one in ten of these."""
    random = np.random.default_rng(11)
    sound = boosters.saved(boosters.train(kind, rounds=2))
    accepted = tmp_path / "accepted"
    accepted.mkdir()
    for number in range(MUTATIONS):
        data = bytearray(sound)
        for place in random.integers(0, len(data), random.integers(1, 4)):
            data[place] = random.integers(0, 256)
        try:
            read_model(bytes(data))
        except ModelFileError:
            continue
        (accepted / f"{number:03}.ubj").write_bytes(data)
    rows = tmp_path / "rows.npy"
    np.save(rows, boosters.table(rows=5))
    command = [sys.executable, "-W", "ignore", "-c", LOADS_ALL, str(rows), str(accepted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, f"died at {done.stdout[-20:]}: {done.stderr[-2000:]}"
    assert 0 < len(list(accepted.iterdir())) < MUTATIONS


def test_the_runtime_s_version_is_known_without_importing_it() -> None:
    assert reader.runtime_version() == tuple(int(part) for part in xgboost.__version__.split("."))
