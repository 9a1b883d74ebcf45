"""Every kind of XGBoost model, freshly trained, gives through the runtime what XGBoost gives when asked directly."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import xgboost

from tests.unit import boosters, builders
from workers import runtimes
from workers.loaded_models import LoadedModels, ModelUnavailable
from workers.manifest import Manifest
from workers.model_store import ModelStore

ROWS = boosters.table(seed=8, rows=40)
MARGIN = np.random.default_rng(2).normal(size=ROWS.shape[0]).astype(np.float32)


def manifest(kind: str, **changes: Any) -> Manifest:
    columns = [{"name": name, "missing": True} for name in boosters.NAMES]
    if boosters.KINDS[kind].matrix.get("enable_categorical"):
        columns[2] |= {"type": "category", "categories": list("uvwxyz")}  # type: ignore[dict-item]
    return builders.release(**{"columns": columns, "output": boosters.KINDS[kind].output} | changes).manifest


def load(kind: str, booster: xgboost.Booster, form: str = "ubj", **changes: Any) -> runtimes.Model:
    return runtimes.load(manifest(kind, **changes), boosters.saved(booster, form))


def asked(booster: xgboost.Booster, **options: Any) -> npt.NDArray[np.float32]:
    """What XGBoost says of ROWS by its other way in, a DMatrix."""
    margin = options.pop("margin", None)
    data = xgboost.DMatrix(
        ROWS, base_margin=margin, feature_names=booster.feature_names, feature_types=booster.feature_types
    )
    return np.asarray(booster.predict(data, strict_shape=True, **options))


def expected(kind: str, booster: xgboost.Booster, **options: Any) -> npt.NDArray[np.float32]:
    """What the runtime should give."""
    if kind == "binary:logitraw":
        return 1 / (1 + np.exp(-asked(booster, output_margin=True, **options)))
    if kind == "multi:softmax":
        powers = np.exp(asked(booster, output_margin=True, **options).astype(np.float64))
        return powers / powers.sum(axis=1, keepdims=True)
    found = asked(booster, **options)
    return found[:, 1:] if kind == "two classes" else found


@pytest.mark.parametrize("form", ["ubj", "json"])
@pytest.mark.parametrize("kind", boosters.KINDS)
def test_a_model_predicts_as_xgboost_itself(kind: str, form: str) -> None:
    booster = boosters.train(kind)
    found = load(kind, booster, form).predict(ROWS)
    output = manifest(kind).output
    assert (found.shape, found.dtype) == ((len(ROWS), output.width), np.float32)
    np.testing.assert_allclose(found, expected(kind, booster), rtol=1e-6, atol=1e-7)
    assert len(np.unique(found.round(4), axis=0)) > 1
    if output.labels:
        assert found.min() >= 0
        assert found.max() <= 1
    if output.kind == "multiclass":
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-6)


def test_softmax_and_logitraw_give_the_probabilities_of_their_siblings() -> None:
    # Both of these begin with log-odds of 0.
    for raw, sibling, raw_start, start in (
        ("multi:softmax", "multi:softprob", 0.5, 0.5),
        ("binary:logitraw", "binary:logistic", 0.0, 0.5),
    ):
        found = load(raw, boosters.train(raw, base_score=raw_start)).predict(ROWS)
        also = load(sibling, boosters.train(sibling, base_score=start)).predict(ROWS)
        np.testing.assert_allclose(found, also, atol=1e-6)


def test_a_probability_near_nothing_is_no_warning() -> None:
    booster = boosters.train("binary:logitraw", base_score=-300.0)
    assert load("binary:logitraw", booster).predict(ROWS).max() < 1e-30


@pytest.mark.parametrize("kind", [kind for kind in boosters.KINDS if "gblinear" not in kind])
def test_the_tree_range_counts(kind: str) -> None:
    booster = boosters.train(kind)
    found = load(kind, booster, tree_range=[1, 3]).predict(ROWS)
    np.testing.assert_allclose(found, expected(kind, booster, iteration_range=(1, 3)), rtol=1e-6, atol=1e-7)
    if kind != "binary:hinge":
        assert np.abs(found - load(kind, booster).predict(ROWS)).max() > 1e-3


def test_a_tree_range_to_the_best_iteration_is_what_xgboost_calls_best() -> None:
    booster = boosters.train("reg:squarederror")
    booster.set_attr(best_iteration="2")
    with pytest.raises(ValueError, match=r"write tree_range: \[0, 3\]"):
        load("reg:squarederror", booster)
    found = load("reg:squarederror", booster, tree_range=[0, 3]).predict(ROWS)
    np.testing.assert_array_equal(found, asked(booster, iteration_range=(0, booster.best_iteration + 1)))


# A softmax of two classes has two margins a row, and its output one number.
@pytest.mark.parametrize("kind", [kind for kind in boosters.KINDS if kind != "two classes"])
def test_a_base_margin_is_what_a_row_begins_with(kind: str) -> None:
    booster = boosters.train(kind)
    margin = np.stack([MARGIN * (i + 1) for i in range(manifest(kind).output.width)], axis=1)
    model = load(kind, booster)
    found = model.predict(ROWS, margin)
    np.testing.assert_allclose(found, expected(kind, booster, margin=margin), rtol=1e-6, atol=1e-7)
    assert np.abs(found - model.predict(ROWS)).max() > 1e-3


def test_a_base_margin_of_two_classes_is_refused() -> None:
    columns = [{"name": name} for name in [*boosters.NAMES, "m"]]
    with pytest.raises(ValueError, match="base_margin: the model takes 2 numbers a row, for its two classes"):
        load("two classes", boosters.train("two classes"), columns=columns, base_margin=["m"])


EXPLAINED = [kind for kind in boosters.KINDS if kind != "several targets in one tree"]


@pytest.mark.parametrize("kind", EXPLAINED)
def test_contributions_add_up_to_the_margin(kind: str) -> None:
    booster = boosters.train(kind)
    found = load(kind, booster).contributions(ROWS)
    margin = asked(booster, output_margin=True)
    if kind == "two classes":
        margin = margin[:, 1:]
    width = manifest(kind).output.width
    assert found.shape == ((len(ROWS), 5) if width == 1 else (len(ROWS), width, 5))
    np.testing.assert_allclose(found.sum(axis=-1).reshape(margin.shape), margin, atol=1e-4)
    assert np.abs(found[..., :-1]).max() > 1e-3


def test_categories_are_the_model_s_codes() -> None:
    """Trained on texts, asked with positions."""
    booster = boosters.train("categories")
    model = load("categories", booster)
    seen = [model.predict(np.array([[0, 0, code, 1]], dtype=np.float32))[0, 0] for code in range(6)]
    assert len(set(seen)) > 3


def test_rows_are_predicted_alike_alone_and_together() -> None:
    for kind in ("multi:softmax", "dart", "categories", "several targets in one tree"):
        model = load(kind, boosters.train(kind))
        alone = np.vstack([model.predict(ROWS[i : i + 1]) for i in range(len(ROWS))])
        np.testing.assert_array_equal(alone, model.predict(ROWS))


def test_a_store_s_manifest_reaches_the_model(tmp_path: Path) -> None:
    """The base margin and a step of pre-processing, through everything that a worker does."""
    booster = boosters.train("multi:softprob")
    columns = [{"name": name, "missing": True} for name in ("a", "b", "c", "dd", "m1", "m2", "m3")]
    names = {"a": "a", "b": "b", "c": "c", "dd": "d"}
    booster.feature_names = list(names)
    builders.write_release(
        tmp_path,
        "m",
        artifact=boosters.saved(booster),
        columns=columns,
        preprocessing=[{"step": "scale", "columns": ["dd"], "center": 1.0, "scale": 2.0}],
        base_margin=["m1", "m2", "m3"],
        output=boosters.KINDS["multi:softprob"].output,
        explanations={"max_rows": 5},
    )
    release = ModelStore(tmp_path).get("m")
    served = LoadedModels(ModelStore(tmp_path)).get("m", "1", release.manifest.sha256)
    margins = np.random.default_rng(4).normal(size=(len(ROWS), 3)).astype(np.float32)
    sent = ROWS * np.float32([1, 1, 1, 2]) + np.float32([0, 0, 0, 1])
    found = served.outputs(np.hstack([sent, margins]), explain=True)
    data = xgboost.DMatrix(ROWS, base_margin=margins, feature_names=booster.feature_names)
    np.testing.assert_allclose(found["probability"], booster.predict(data), atol=1e-5)
    assert found["contributions"].shape == (len(ROWS), 3, 5)
    assert release.manifest.tensors(explain=True)[-1].shape == (3, 5)


def test_a_manifest_that_would_explain_what_xgboost_can_not_is_refused_when_it_is_loaded(tmp_path: Path) -> None:
    kind = "several targets in one tree"
    builders.write_release(
        tmp_path,
        "m",
        artifact=boosters.saved(boosters.train(kind)),
        columns=[{"name": name, "missing": True} for name in boosters.NAMES],
        output=boosters.KINDS[kind].output,
        explanations={},
    )
    release = ModelStore(tmp_path).get("m")
    with pytest.raises(ModelUnavailable, match="m version 1: "):
        LoadedModels(ModelStore(tmp_path)).get("m", "1", release.manifest.sha256)
