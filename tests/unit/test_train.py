"""The examples can be trained again."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from models_store import train
from workers.golden import read_samples
from workers.loaded_models import LoadedModels
from workers.making.table import plausible_range
from workers.making.version import answers
from workers.model_store import ModelStore

EXAMPLES = ["breast_cancer", "churn", "diabetes", "wine"]


def test_every_example_is_one_that_can_be_trained(store: Path) -> None:
    assert sorted(ModelStore(store).snapshot().releases) == EXAMPLES
    assert ModelStore(store).snapshot().problems == ()


@pytest.mark.parametrize("model", EXAMPLES)
def test_training_again_gives_the_committed_predictions(
    model: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A GPU adds in another order, and may grow another tree.
    monkeypatch.setattr(train, "resolve", lambda requested: "cpu")
    folder = tmp_path / model / "1"
    folder.mkdir(parents=True)
    shutil.copy(store / model / "1" / "manifest.yaml", folder)

    train.train(folder)

    again = ModelStore(tmp_path)
    release = LoadedModels(again).get(model, "1", again.get(model).manifest.sha256).release
    committed = read_samples(ModelStore(store).get(model))
    assert committed is not None
    assert committed.differences(answers(release, committed.decoded.matrix)) == []
    was = ModelStore(store).get(model).manifest
    assert release.manifest.model_copy(update={"artifact": was.artifact}) == was


def test_the_manifest_that_training_writes_keeps_its_comments_and_its_order(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "resolve", lambda requested: "cpu")
    folder = tmp_path / "wine" / "1"
    folder.mkdir(parents=True)
    before = (store / "wine" / "1" / "manifest.yaml").read_text()
    data = yaml.safe_load(before)
    for written in ("artifact", "columns", "output", "golden"):
        del data[written]
    comments = "".join(line for line in before.splitlines(keepends=True) if line.startswith("#"))
    (folder / "manifest.yaml").write_text(comments + yaml.safe_dump(data, sort_keys=False))

    train.train(folder)

    sha256 = ModelStore(tmp_path).get("wine").manifest.sha256
    was = ModelStore(store).get("wine").manifest.sha256
    assert (folder / "manifest.yaml").read_text().replace(sha256, was) == before


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 28.1], (0, 1000)),
        ([5, 99], (0, 1000)),
        ([0, 100.5], (0, 10_000)),
        ([0, 0], (0, 1000)),
        ([-1, 4254], (-100_000, 100_000)),
    ],
)
def test_a_plausible_range_leaves_room_around_what_was_seen(values: list[float], expected: tuple[float, float]) -> None:
    assert plausible_range(np.array(values, dtype=np.float32)) == expected
