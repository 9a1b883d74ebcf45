"""A manifest of an older template is read and served as it was. `template_1` holds one as it was shipped."""

import shutil
from pathlib import Path

import numpy as np

from tests.unit.builders import manifest_dict
from workers.golden import read_samples
from workers.loaded_models import LoadedModels
from workers.manifest import Golden, read_manifest
from workers.model_store import ModelStore
from workers.template.upgrades import STEPS, TEMPLATE, upgraded

OLD = Path(__file__).parent / "template_1"


def test_each_older_template_has_a_step_to_the_next() -> None:
    assert sorted(STEPS) == list(range(1, TEMPLATE))


def test_a_manifest_of_template_1_is_read_as_one_of_the_present_template(store: Path) -> None:
    old = read_manifest(OLD / "wine" / "1" / "manifest.yaml")
    assert old.template == TEMPLATE
    assert old.golden == Golden(file="golden.json")
    now = read_manifest(store / "wine" / "1" / "manifest.yaml")
    assert (old.columns, old.output, old.policy) == (now.columns, now.output, now.policy)


def test_a_model_of_template_1_is_served_with_its_golden_samples_compared(store: Path, tmp_path: Path) -> None:
    shutil.copytree(OLD, tmp_path, dirs_exist_ok=True)
    folder = tmp_path / "wine" / "1"
    shutil.copy(store / "wine" / "1" / "model.ubj", folder)
    models = ModelStore(tmp_path)
    release = models.get("wine")
    LoadedModels(models).get("wine", "1", release.manifest.sha256)
    samples = read_samples(release)
    assert samples is not None
    assert (list(samples.outputs), samples.absolute, len(samples.rows)) == (["probability"], 1e-5, 8)
    expected = np.array(samples.outputs["probability"])
    assert samples.differences({"probability": expected}) == []
    (difference,) = samples.differences({"probability": expected + np.eye(8, 3, k=-5) / 1000})[:1]
    assert (difference.row, difference.output) == (5, "probability")


def test_a_step_leaves_what_it_does_not_know() -> None:
    for data in ({"template": 99, "golden": "x"}, {"golden": "x"}, {"template": "1"}, {"template": True}, {}):
        assert upgraded(data) == data
    assert upgraded({"template": 1, "golden": 5}) == {"template": TEMPLATE, "golden": 5}
    assert upgraded({"template": 1, "golden": "x"}) == {"template": TEMPLATE, "golden": {"file": "x"}}
    present = manifest_dict()
    assert upgraded(present) == present
