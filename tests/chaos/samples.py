"""What the load asks, what the answers must be, and the models' manifests that suit a run of many faults."""

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
import xgboost
import yaml

from tests.stack import ROOT

STORE = ROOT / "models_store"
DATASETS = {"breast_cancer": sklearn.datasets.load_breast_cancer, "wine": sklearn.datasets.load_wine}
MODELS = tuple(DATASETS)


@cache
def _table(model: str) -> np.ndarray:
    return np.asarray(DATASETS[model]().data)


@cache
def _answers(model: str) -> np.ndarray:
    booster = xgboost.Booster(model_file=STORE / model / "1" / "model.ubj")
    return np.asarray(booster.inplace_predict(_table(model).astype(np.float32)))


def numbers(model: str, first: int, rows: int) -> np.ndarray:
    """Return `rows` samples of the model's data set from number `first` on; after the last comes the first again."""
    return _table(model).take(range(first, first + rows), axis=0, mode="wrap")


@cache
def _labels(model: str) -> list[str]:
    manifest = yaml.safe_load((STORE / model / "1" / "manifest.yaml").read_text())
    return list(manifest["output"]["labels"])


def expected(model: str, first: int, rows: int) -> dict[str, Any]:
    """Return every output for these samples, from what the model file itself says, without any of the system's code."""
    probability = _answers(model).take(range(first, first + rows), axis=0, mode="wrap")
    labels = _labels(model)
    best = probability.argmax(axis=1) if probability.ndim > 1 else (probability >= 0.5).astype(int)
    return {"probability": probability, "label": [labels[index] for index in best]}


def store_copy(folder: Path, *, timeout_seconds: float, attempts: int = 20, backoff_seconds: float = 0.1) -> Path:
    """Copy the model store with another policy: a run of many faults must not end jobs by using up their attempts."""
    for manifest in STORE.glob("*/1/manifest.yaml"):
        copy = folder / manifest.parent.relative_to(STORE)
        shutil.copytree(manifest.parent, copy)
        policy = (
            f"policy: {{attempts: {attempts}, backoff_seconds: {backoff_seconds}, timeout_seconds: {timeout_seconds}}}"
        )
        text, changed = re.subn(r"^policy: .*$", policy, manifest.read_text(), flags=re.MULTILINE)
        assert changed == 1, manifest
        (copy / "manifest.yaml").write_text(text)
    return folder
