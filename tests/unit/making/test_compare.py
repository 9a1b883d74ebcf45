"""What a release changes is shown before it is done."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.unit.making.made import make, rides, rides_csv, saved, trained
from workers.making.compare import compare
from workers.making.from_file import from_file, next_version
from workers.making.table import DataError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`rides` 1 and 2, the second with more trees, another policy, and its columns in another order."""
    folder = tmp_path_factory.mktemp("compare")
    _, fare = rides()
    data = rides_csv(folder / "rides.csv", fare=fare)
    words = ("--data", str(data))
    model = saved(trained(fare), folder / "m.ubj")
    make(from_file, "new", folder / "store", "rides", "--from", str(model), *words, "--target", "fare")
    better = saved(trained(fare, rounds=80), folder / "better.ubj")
    made, _ = make(next_version, "import", folder / "store", str(better), "rides", *words)
    manifest = yaml.safe_load((made / "manifest.yaml").read_text())
    manifest["policy"] = {"attempts": 9}
    manifest["columns"][0]["range"] = [0, 70]
    (made / "manifest.yaml").write_text(yaml.safe_dump(manifest))
    return folder / "store"


def test_everything_that_differs_is_one_line(store: Path) -> None:
    lines = list(compare(store, "rides", "1", "2"))
    assert lines[0] == "rides 1 → 2"
    assert "policy.attempts: 3 → 9" in lines
    assert "column 'km': range: [0.0, 1000.0] → [0.0, 70.0]" in lines
    assert not any("column 'tip'" in line or "description" in line for line in lines)
    sizes = [len((store / "rides" / version / "model.ubj").read_bytes()) for version in "12"]
    assert f"size: {sizes[0]:,} → {sizes[1]:,} bytes" in lines


def test_the_largest_differences_of_the_golden_samples_come_first(store: Path) -> None:
    lines = list(compare(store, "rides", "1", "2"))
    at = next(i for i, line in enumerate(lines) if line.startswith("value: differs by "))
    shown = [line.split(": ", 1)[1].split(" → ") for line in lines[at + 1 :]]
    distances = [abs(float(old) - float(new)) for old, new in shown]
    assert len(distances) == 5 and min(distances) > 0
    assert distances == sorted(distances, reverse=True)
    assert distances[0] == pytest.approx(float(lines[at].split()[3]), rel=0.01)


def test_a_version_compared_with_itself_differs_in_nothing(store: Path) -> None:
    lines = list(compare(store, "rides", "1", "1"))
    assert lines[2:] == ["value: differs by 0 at the most, by 0 on average"]


def test_a_version_that_can_not_answer_is_shown_to_be_one(store: Path, tmp_path: Path) -> None:
    _, fare = rides()
    words = (
        "--data",
        str(rides_csv(tmp_path / "rides.csv", long=np.where(fare > 60, "yes", "no"))),
        "--target",
        "long",
    )
    model = saved(trained(fare > 60, objective="binary:logistic"), tmp_path / "m.ubj")
    made, _ = make(from_file, "new", store, "rides", "--from", str(model), *words)
    lines = list(compare(store, "rides", "1", made.name))
    assert "output.kind: regression → binary" in lines
    assert f"value: not among the outputs of {made.name}" in lines
    manifest = made / "manifest.yaml"
    manifest.write_text(manifest.read_text().replace("name: tip", "name: gift"))
    lines = list(compare(store, "rides", "1", made.name))
    assert {"column 'tip': removed", "column 'gift': new"} <= set(lines)
    assert lines[-1].startswith(f"golden samples: {made.name} doesn't answer those of 1: ")


def test_a_version_that_is_not_served_is_named(store: Path) -> None:
    with pytest.raises(DataError, match="model 'rides' has no version '99'"):
        list(compare(store, "rides", "1", "99"))
    (store / "rides" / "50").mkdir()
    (store / "rides" / "50" / "manifest.yaml").write_text("template: 2\n")
    with pytest.raises(DataError, match=r"rides/50/manifest.yaml:1: model: Field required"):
        list(compare(store, "rides", "50", "1"))
