"""XGBoost models as workers load and call them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xgboost

from tests.unit import builders
from workers import runtimes
from workers.device import gpu_names
from workers.loaded_models import LoadedModels, ModelUnavailable
from workers.model_store import ModelStore, Release
from workers.served import Served

MATRIX = np.random.default_rng(3).normal(size=(50, 3)).astype(np.float32)
MATRIX[::7, 1] = np.nan


def load(release: Release) -> runtimes.Model:
    return runtimes.load(release.manifest, release.artifact())


def get(models: LoadedModels, release: Release) -> Served:
    return models.get(release.manifest.model, release.manifest.version, release.manifest.sha256)


def change_golden(manifest: Path, **changes: object) -> None:
    path = manifest.parent / "golden.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize("model", builders.OUTPUTS)
def test_a_loaded_model_predicts_exactly_as_the_booster_itself(trained_store: Path, model: str) -> None:
    release = ModelStore(trained_store).get(model)
    booster = xgboost.Booster(model_file=str(release.folder / "model.ubj"))
    expected = booster.inplace_predict(MATRIX, strict_shape=True)
    result = load(release).predict(MATRIX)
    np.testing.assert_array_equal(result, expected)
    assert result.shape == (50, 3 if model == "three" else 1)
    assert result.dtype == np.float32


def test_rows_are_predicted_alike_alone_and_together(trained_store: Path) -> None:
    model = load(ModelStore(trained_store).get("three"))
    together = model.predict(MATRIX)
    alone = np.vstack([model.predict(MATRIX[i : i + 1]) for i in range(len(MATRIX))])
    np.testing.assert_array_equal(alone, together)


def test_the_device_in_effect_is_read_back(trained_store: Path) -> None:
    assert load(ModelStore(trained_store).get("two")).device == "cpu"


# XGBoost tells it as an error like any other, and a job fails for good of those.
STARVED = """
import resource, sys
from pathlib import Path
import numpy as np
from workers import runtimes
from workers.model_store import ModelStore
release = ModelStore(Path(sys.argv[1])).get("two")
model = runtimes.load(release.manifest, release.artifact())
rows = np.zeros((3_000_000, 3), dtype=np.float32)
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 4_000_000, used + 4_000_000))
try:
    model.predict(rows)
except MemoryError as error:
    print("MemoryError:", error)
"""


def test_memory_that_runs_out_in_a_predict_is_a_memory_error(trained_store: Path) -> None:
    command = [sys.executable, "-c", STARVED, str(trained_store)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.stdout.strip() == "MemoryError: std::bad_alloc", done.stdout + done.stderr


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.skipif(bool(gpu_names()), reason="this machine has a GPU")
def test_a_gpu_that_is_asked_for_and_not_there_is_an_error(trained_store: Path) -> None:
    artifact = ModelStore(trained_store).get("two").artifact()
    with pytest.raises(ValueError, match="the manifest asks for a GPU, and XGBoost found none"):
        runtimes.load(builders.release(device="cuda").manifest, artifact)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"columns": builders.COLUMNS[:2]}, "the model takes 3 columns, the manifest lists 2"),
        ({"columns": builders.COLUMNS[::-1]}, "columns are not the model's, in the model's order"),
        (
            {"output": builders.OUTPUTS["three"]},
            "the file's objective binary:logistic is for binary, not for multiclass",
        ),
    ],
)
def test_a_manifest_that_is_not_the_model_s_is_refused(
    trained_store: Path, changes: dict[str, object], reason: str
) -> None:
    artifact = ModelStore(trained_store).get("two").artifact()
    with pytest.raises(ValueError, match=reason):
        runtimes.load(builders.release(**changes).manifest, artifact)


def test_bytes_that_are_no_model_are_refused(tmp_path: Path) -> None:
    builders.write_release(tmp_path, "m", artifact=b"{}")
    with pytest.raises(ModelUnavailable):
        get(LoadedModels(ModelStore(tmp_path)), ModelStore(tmp_path).get("m"))


def test_a_model_is_loaded_once(trained_store: Path) -> None:
    store = ModelStore(trained_store)
    models = LoadedModels(store)
    assert get(models, store.get("two")) is get(models, store.get("two"))


def test_the_most_recently_used_models_are_kept(trained_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(trained_store)
    costs = [len(store.get(name).artifact()) for name in ("two", "three", "number")]
    # A model that small costs what its file has: the process doesn't grow by it.
    models = LoadedModels(store, budget=sum(costs) - 1)
    monkeypatch.setattr("workers.loaded_models._memory", lambda: 0)
    two, three = get(models, store.get("two")), get(models, store.get("three"))
    assert get(models, store.get("two")) is two
    get(models, store.get("number"))
    assert get(models, store.get("two")) is two
    assert get(models, store.get("three")) is not three


def test_a_model_larger_than_the_budget_is_kept_while_it_is_used(trained_store: Path) -> None:
    store = ModelStore(trained_store)
    models = LoadedModels(store, budget=10)
    two = get(models, store.get("two"))
    assert get(models, store.get("two")) is two
    get(models, store.get("three"))
    assert get(models, store.get("two")) is not two


def test_a_model_costs_the_memory_that_the_process_grows_by(
    trained_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ModelStore(trained_store)
    memory = iter([100, 100 + 2**20])
    monkeypatch.setattr("workers.loaded_models._memory", lambda: next(memory))
    models = LoadedModels(store)
    get(models, store.get("two"))
    assert models.bytes == 2**20


@pytest.mark.parametrize(
    "changes",
    [
        {"raw": [[0.1], [0.2], [0.3], [0.4]]},
        {"raw": [[None]] * 4},
        {"tolerance": -1},
        {"inputs": []},
        {"inputs": [[1, 2]]},
        {"inputs": "none"},
    ],
    ids=str,
)
def test_a_model_that_gives_something_else_than_its_golden_samples_is_unavailable(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    change_golden(builders.train_tiny(tmp_path, "m", builders.OUTPUTS["two"]), **changes)
    store = ModelStore(tmp_path)
    with pytest.raises(ModelUnavailable, match="m version 1: "):
        get(LoadedModels(store), store.get("m"))


def test_a_model_whose_golden_samples_are_missing_is_unavailable(tmp_path: Path) -> None:
    (builders.train_tiny(tmp_path, "m", builders.OUTPUTS["two"]).parent / "golden.json").unlink()
    store = ModelStore(tmp_path)
    with pytest.raises(ModelUnavailable, match=r"golden\.json"):
        get(LoadedModels(store), store.get("m"))


def test_a_changed_file_is_unavailable_and_the_loaded_model_stays(tmp_path: Path) -> None:
    path = builders.train_tiny(tmp_path, "m", builders.OUTPUTS["two"])
    store = ModelStore(tmp_path)
    models = LoadedModels(store)
    before = get(models, store.get("m"))
    (path.parent / "model.ubj").write_bytes(b"something else")
    assert get(models, store.get("m")) is before
    with pytest.raises(ModelUnavailable, match="sha256 is"):
        get(LoadedModels(store), store.get("m"))


@pytest.mark.parametrize(("model", "version", "sha256"), [("x", "1", "ab"), ("two", "2", "ab"), ("two", "1", "ab")])
def test_what_is_not_in_this_worker_s_store_is_unavailable(
    trained_store: Path, model: str, version: str, sha256: str
) -> None:
    with pytest.raises(ModelUnavailable, match=f"{model} version {version}: "):
        LoadedModels(ModelStore(trained_store)).get(model, version, sha256)


@pytest.mark.parametrize("model", ["breast_cancer", "wine"])
def test_the_shipped_models_give_their_golden_samples(store: Path, model: str) -> None:
    shipped = ModelStore(store)
    assert get(LoadedModels(shipped), shipped.get(model)).model.device in ("cpu", "cuda:0")
