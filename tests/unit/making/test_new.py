"""A version made of a CSV is served as it stands, knows what it learned, and is there whole or not at all."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.unit.making import made
from workers.formats import Limits, csv_rows
from workers.golden import read_samples
from workers.loaded_models import LoadedModels
from workers.making import version
from workers.making.from_csv import from_csv
from workers.making.table import DataError
from workers.model_store import ModelStore
from workers.served import Served

ROWS = 400


def make(store: Path, *words: str) -> tuple[Path, list[str]]:
    """Make a version as the command does. Returns its folder and what was told."""
    return made.make(from_csv, "new", store, *words)


def loaded(store: Path, model: str, number: str = "1") -> Served:
    """A version, loaded as a worker does, golden samples compared."""
    models = ModelStore(store)
    release = models.get(model, number)
    assert models.snapshot().problems == ()
    return LoadedModels(models).get(model, number, release.manifest.sha256)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rides: an amount, two classes and three that follow from a number, a category and one that may be missing."""
    random = np.random.default_rng(7)
    path = tmp_path_factory.mktemp("data") / "rides.csv"
    lines = ["ride,km,zone,tip,fare,long,band"]
    for i in range(ROWS):
        km, zone = random.uniform(0, 50), "ABC"[random.integers(3)]
        tip = "" if i % 5 == 0 else str(random.integers(1, 9))
        fare = 3 + 2 * km + {"A": 0, "B": 20, "C": 5}[zone] + float(tip or 0)
        lines.append(f"{i},{km:.3f},{zone},{tip},{fare:.2f},{'yes' if fare > 60 else 'no'},{min(int(fare // 40), 2)}")
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("target", "others", "output"),
    [
        ("fare", ["long", "band"], {"kind": "regression"}),
        ("long", ["fare", "band"], {"kind": "binary", "labels": ["no", "yes"]}),
        ("band", ["fare", "long"], {"kind": "multiclass", "labels": ["0", "1", "2"]}),
    ],
)
def test_the_model_of_a_csv_is_served_and_has_learned_something(
    tmp_path: Path, data: Path, target: str, others: list[str], output: dict[str, object]
) -> None:
    without = [word for other in others for word in ("--without", other)]
    folder, told = make(tmp_path / "store", "rides", "--csv", str(data), "--target", target, *without)
    assert folder == tmp_path / "store" / "rides" / "1"
    release = loaded(tmp_path / "store", "rides").release
    manifest = release.manifest
    assert manifest.output.model_dump(mode="json", exclude_unset=True) == output
    assert [(c.name, c.type, c.missing) for c in manifest.columns] == [
        ("km", "float", False),
        ("zone", "category", False),
        ("tip", "int", True),
    ]
    samples = read_samples(release)
    assert samples is not None and np.isnan(samples.decoded.matrix).any()
    # What is said of the rows held out is far better than what a constant would do.
    numbers = [float(number) for number in re.findall(r"\d+\.?\d*", told[-1])]
    good, plain = numbers[0], numbers[-1]
    assert good < plain / 4 if target == "fare" else good > 85 > plain


def test_the_portal_reads_the_same_csv_as_requests(tmp_path: Path, data: Path) -> None:
    make(tmp_path / "store", "rides", "--csv", str(data), "--target", "fare", "--without", "long", "--without", "band")
    served = loaded(tmp_path / "store", "rides")
    table = [line.split(",") for line in data.read_text().splitlines()]
    body = "\n".join(",".join(row[1:4]) for row in table)
    decoded = csv_rows.decode(served.release, body.encode(), Limits(rows=ROWS, columns=10))
    predicted = served.outputs(decoded.matrix)["value"]
    fares = np.array([float(row[4]) for row in table[1:]])
    assert np.abs(predicted - fares).mean() < 5


def test_the_same_file_gives_the_same_model_and_the_next_number(tmp_path: Path, data: Path) -> None:
    words = ("rides", "--csv", str(data), "--target", "fare", "--without", "long", "--without", "band")
    first, _ = make(tmp_path / "store", *words)
    before = {path: path.read_bytes() for path in first.iterdir()}
    second, _ = make(tmp_path / "store", *words)
    assert (first.name, second.name) == ("1", "2")
    assert {path: path.read_bytes() for path in first.iterdir()} == before
    assert (second / "model.ubj").read_bytes() == before[first / "model.ubj"]


def test_a_column_whose_name_xgboost_refuses_is_learned_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_text("size [m],y\n" + "".join(f"{i % 17},{i % 17 > 8}\n" for i in range(100)))
    make(tmp_path / "store", "sizes", "--csv", str(path), "--target", "y")
    release = loaded(tmp_path / "store", "sizes").release
    assert [column.name for column in release.manifest.columns] == ["size [m]"]


def test_columns_that_do_not_tell_the_target_are_said_to_be_none(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    path = tmp_path / "data.csv"
    path.write_text("a,y\n" + "".join(f"{random.random()},{random.random() < 0.8}\n" for _ in range(200)))
    _, told = make(tmp_path / "store", "noise", "--csv", str(path), "--target", "y")
    assert "no better than not looking at the columns" in told[-1]


@pytest.mark.parametrize("name", ["", "Rides", "a/b", "../x", "a" * 65])
def test_a_wrong_name_is_refused_before_anything_is_trained(tmp_path: Path, data: Path, name: str) -> None:
    with pytest.raises(DataError, match="is no name for a model"):
        make(tmp_path / "store", name, "--csv", str(data), "--target", "fare")
    assert list((tmp_path / "store").iterdir()) == []


def test_without_a_target_nothing_is_guessed(tmp_path: Path, data: Path) -> None:
    with pytest.raises(DataError, match="--target"):
        make(tmp_path / "store", "rides", "--csv", str(data))


def test_a_version_that_fails_on_the_way_leaves_nothing(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: object) -> None:
        raise OSError(28, "No space left on device", "golden.json")

    monkeypatch.setattr(version, "_as_sent", full)
    with pytest.raises(DataError, match=r"golden.json: No space left on device"):
        make(tmp_path / "store", "rides", "--csv", str(data), "--target", "fare")
    assert list((tmp_path / "store").iterdir()) == []


def test_the_manifest_says_how_it_was_made_and_where_its_form_is(tmp_path: Path, data: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "manifest.schema.json").write_text(json.dumps({}))
    folder, _ = make(tmp_path / "store", "rides", "--csv", str(data), "--target", "fare", "--without", "long")
    head = (folder / "manifest.yaml").read_text().splitlines()[:2]
    assert head[0] == "# yaml-language-server: $schema=../../manifest.schema.json"
    assert head[1] == f"# Made by `manage.py model new rides --csv={data} --target=fare --without=long`."
