"""A model that was trained elsewhere becomes a version whose manifest says what the file says."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.unit.making.made import make, rides, rides_csv, saved, trained
from workers.golden import read_samples
from workers.loaded_models import LoadedModels
from workers.making.from_file import from_file, next_version
from workers.making.table import DataError
from workers.making.version import answers
from workers.model_store import ModelStore, Release


def served(store: Path, model: str, version: str = "1") -> Release:
    """The release as a worker has loaded it, its golden samples compared."""
    models = ModelStore(store)
    assert models.snapshot().problems == ()
    release = models.get(model, version)
    return LoadedModels(models).get(model, version, release.manifest.sha256).release


def new(tmp_path: Path, *words: str) -> tuple[Release, list[str]]:
    """Make a version and return it as it is served."""
    folder, told = make(from_file, "new", tmp_path / "store", "rides", *words)
    return served(tmp_path / "store", "rides", folder.name), told


@pytest.mark.parametrize("form", ["ubj", "json"])
def test_file_and_rows_say_what_the_manifest_needs(tmp_path: Path, form: str) -> None:
    features, fare = rides()
    long = np.where(fare > 60, "yes", "no")
    booster = trained(fare > 60, objective="binary:logistic")
    model = saved(booster, tmp_path / f"m.{form}")
    data = rides_csv(tmp_path / "rides.csv", long=long)
    release, told = new(tmp_path, "--from", str(model), "--data", str(data), "--target", "long")
    manifest = release.manifest
    assert (manifest.output.kind, manifest.output.labels) == ("binary", ("no", "yes"))
    assert manifest.artifact.file == f"model.{form}"
    km, zone, tip = manifest.columns
    assert (km.name, km.type, km.range, km.missing) == ("km", "float", (0, 1000), False)
    assert (zone.name, zone.type, zone.categories) == ("zone", "category", ("A", "B", "C"))
    assert (tip.name, tip.type, tip.missing) == ("tip", "int", True)
    # What a client gets is what the model gives when it is called directly.
    direct = booster.inplace_predict(features)
    np.testing.assert_array_equal(np.float32(answers(release, features)["probability"]), direct)
    assert any("'zone'" in line and "order of the alphabet" in line for line in told)
    accuracy = float(told[-1].split()[2].strip("%"))
    assert accuracy == pytest.approx(100 * ((direct >= 0.5) == (fare > 60)).mean(), abs=0.05)
    samples = read_samples(release)
    assert samples is not None and np.isnan(samples.decoded.matrix).any()


@pytest.mark.parametrize(
    ("target", "params", "output"),
    [
        ("one", {"objective": "reg:squarederror"}, {"kind": "regression"}),
        ("one", {"objective": "count:poisson"}, {"kind": "regression"}),
        ("one", {"objective": "rank:pairwise"}, {"kind": "ranking"}),
        ("one", {"objective": "survival:cox"}, {"kind": "survival"}),
        ("three", {"objective": "multi:softprob", "num_class": 3}, {"kind": "multiclass", "labels": ["0", "1", "2"]}),
        (
            "one",
            {"objective": "reg:quantileerror", "quantile_alpha": [0.1, 0.5]},
            {"kind": "regression", "names": ["quantile_0.1", "quantile_0.5"]},
        ),
        ("both", {"objective": "reg:squarederror"}, {"kind": "regression", "names": ["value_0", "value_1"]}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_without_rows_the_file_alone_says_kind_and_width(
    tmp_path: Path, target: str, params: dict[str, Any], output: dict[str, Any]
) -> None:
    _, fare = rides()
    targets = {"one": fare, "both": np.column_stack([fare, -fare]), "three": (fare // 50).clip(0, 2)}
    booster = trained(targets[target], categories=False, **params)
    release, told = new(tmp_path, "--from", str(saved(booster, tmp_path / "m.ubj")))
    assert release.manifest.output.model_dump(mode="json", exclude_unset=True) == output
    assert [column.name for column in release.manifest.columns] == ["km", "zone", "tip"]
    assert any("made up" in line for line in told)


def test_rounds_after_the_best_one_are_not_used(tmp_path: Path) -> None:
    _, fare = rides()
    booster = trained(fare, categories=False)
    booster.set_attr(best_iteration="6", best_score="1")
    release, told = new(tmp_path, "--from", str(saved(booster, tmp_path / "m.ubj")))
    assert release.manifest.tree_range == (0, 7)
    assert any("first 7 rounds" in line for line in told)


def test_a_file_without_names_takes_those_of_the_rows(tmp_path: Path) -> None:
    _, fare = rides()
    model = saved(trained(fare, named=False), tmp_path / "m.ubj")
    data = rides_csv(tmp_path / "rides.csv", fare=fare)
    release, told = new(tmp_path, "--from", str(model), "--data", str(data), "--target", "fare")
    assert [column.name for column in release.manifest.columns] == ["km", "zone", "tip"]
    assert any("order of training" in line for line in told)
    with pytest.raises(DataError, match="takes 3; the rows have 4: km, zone, tip, fare"):
        new(tmp_path, "--from", str(model), "--data", str(data))


def test_labels_in_the_wrong_order_show_in_how_good_it_is(tmp_path: Path) -> None:
    _, fare = rides()
    model = saved(trained(fare > 60, objective="binary:logistic"), tmp_path / "m.ubj")
    data = rides_csv(tmp_path / "rides.csv", long=np.where(fare > 60, "ja", "nein"))
    _, told = new(tmp_path, "--from", str(model), "--data", str(data), "--target", "long")
    assert "no better than not looking at the columns" in told[-1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (pickle.dumps({"a": 1}), "this is a pickle.*import pickle; model = pickle.load"),
        (b"binf" + b"\0" * 100 + b"gbtree", "old binary form.*save_model"),
        (b"PK\x03\x04 what", "neither UBJ nor JSON"),
        (b"{}", "not a model of XGBoost"),
    ],
    ids=["empty", "pickle", "old", "zip", "json"],
)
def test_what_is_no_model_is_refused_with_what_to_do(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "m.bin").write_bytes(content)
    with pytest.raises(DataError, match=f"(?s)m.bin: .*{reason}"):
        new(tmp_path, "--from", str(tmp_path / "m.bin"))
    assert list((tmp_path / "store").iterdir()) == []


def test_half_a_file_is_refused(tmp_path: Path) -> None:
    path = saved(trained(rides()[1]), tmp_path / "m.ubj")
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="m.ubj: not a sound UBJ file"):
        new(tmp_path, "--from", str(path))


def test_what_the_rows_lack_is_named(tmp_path: Path) -> None:
    _, fare = rides()
    model = str(saved(trained(fare), tmp_path / "m.ubj"))
    short = tmp_path / "short.csv"
    short.write_text("km,zone\n1,A\n2,B\n")
    with pytest.raises(DataError, match="the rows have no column 'tip'"):
        new(tmp_path, "--from", model, "--data", str(short))
    with pytest.raises(DataError, match="'zone' is a category and the model file doesn't have its texts"):
        new(tmp_path, "--from", model)
    with pytest.raises(DataError, match="--target is a column of --data, which has none, and not 'fare'"):
        new(tmp_path, "--from", model, "--target", "fare")


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Any]:
    """A store with a model of the rides whose manifest was written by hand, and its fares."""
    _, fare = rides()
    data = rides_csv(tmp_path / "rides.csv", fare=fare)
    model = saved(trained(fare), tmp_path / "m.ubj")
    folder, _ = make(
        from_file, "new", tmp_path / "store", "rides", "--from", str(model), "--data", str(data), "--target", "fare"
    )
    path = folder / "manifest.yaml"
    path.write_text(path.read_text().replace("fare, from m.ubj.", "By hand.") + "policy: {attempts: 7}\n")
    return tmp_path / "store", fare


def test_the_next_version_keeps_what_was_written_by_hand(tmp_path: Path, two: tuple[Path, Any]) -> None:
    store, fare = two
    better = saved(trained(fare, rounds=80), tmp_path / "better.json")
    folder, told = make(next_version, "import", store, str(better), "rides")
    assert folder.name == "2"
    release, before = served(store, "rides", "2"), served(store, "rides", "1")
    assert release.manifest.artifact.file == "model.json"
    changed = {"version", "artifact"}
    assert release.manifest.model_dump(exclude=changed) == before.manifest.model_dump(exclude=changed)
    assert release.manifest.policy.attempts == 7
    ours, theirs = read_samples(release), read_samples(before)
    assert ours is not None and theirs is not None
    np.testing.assert_array_equal(ours.decoded.matrix, theirs.decoded.matrix)
    assert ours.outputs != theirs.outputs


def test_a_file_that_does_not_fit_the_manifest_is_refused(tmp_path: Path, two: tuple[Path, Any]) -> None:
    store, fare = two
    other = saved(trained(fare > 60, objective="binary:logistic"), tmp_path / "other.ubj")
    with pytest.raises(DataError, match="doesn't fit the manifest of rides/1: output.kind"):
        make(next_version, "import", store, str(other), "rides")
    assert [path.name for path in (store / "rides").iterdir()] == ["1"]


def test_the_first_version_is_not_imported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no model 'taxi' is there yet; make it: manage.py model new taxi --from"):
        make(next_version, "import", tmp_path / "store", "m.ubj", "taxi")
