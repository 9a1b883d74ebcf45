"""Short ways to a manifest, a release and a trained model."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
import yaml

from workers.manifest import Manifest
from workers.model_store import Release
from workers.schema import Schema
from workers.template.columns import Column

OUTPUTS: dict[str, dict[str, Any]] = {
    "two": {"kind": "binary", "labels": ["no", "yes"]},
    "three": {"kind": "multiclass", "labels": ["red", "green", "blue"]},
    "number": {"kind": "regression"},
}
COLUMNS: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "missing": True}, {"name": "c", "range": [-100, 100]}]


def manifest_dict(**changes: Any) -> dict[str, Any]:
    """A right manifest as YAML data, changed at its top level; `...` removes a key."""
    data = {
        "template": 2,
        "model": "m",
        "version": "1",
        "runtime": "xgboost",
        # The same arithmetic on every machine, so that results can be compared bit by bit.
        "device": "cpu",
        "artifact": {"file": "model.ubj", "sha256": "ab" * 32},
        "columns": COLUMNS,
        "output": OUTPUTS["two"],
    } | changes
    return {key: value for key, value in data.items() if value is not ...}


def release(**changes: Any) -> Release:
    """A release without files, for everything that only needs its signature."""
    manifest = Manifest.model_validate(manifest_dict(**changes))
    return Release(manifest, Path("nowhere"), Schema(manifest.columns))


def write_release(root: Path, model: str, version: str = "1", artifact: bytes = b"a model", **changes: Any) -> Path:
    """Write the folder of one release. Returns the path of its manifest."""
    folder = root / model / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.ubj").write_bytes(artifact)
    digest = {"file": "model.ubj", "sha256": hashlib.sha256(artifact).hexdigest()}
    data = manifest_dict(**{"model": model, "version": version, "artifact": digest} | changes)
    path = folder / "manifest.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


def train_tiny(root: Path, model: str, output: dict[str, Any], **changes: Any) -> Path:
    """Train a few trees on random rows and write the release with golden samples. Returns the manifest's path."""
    random = np.random.default_rng(7)
    schema = Schema(tuple(Column.model_validate(column) for column in changes.get("columns", COLUMNS)))
    names = schema.names
    features = random.normal(size=(60, len(names))).astype(np.float32)
    for column, texts in schema.categories.items():
        features[:, column] = np.arange(60) % len(texts)
    classes = len(output.get("labels", ()))
    target = features[:, 0] if not classes else np.arange(60) % classes
    objective = {0: {}, 2: {"objective": "binary:logistic"}}.get(
        classes, {"objective": "multi:softprob", "num_class": classes}
    )
    matrix = xgboost.DMatrix(features, label=target, feature_names=list(names))
    booster = xgboost.train({"max_depth": 2, "nthread": 1, **objective}, matrix, num_boost_round=3)
    raw = np.asarray(booster.inplace_predict(features[:4], strict_shape=True), np.float32)
    inputs = [[cell if isinstance(cell, str) else float(cell) for cell in schema.cells(row)] for row in features[:4]]
    golden = {"inputs": inputs, "raw": raw.tolist(), "tolerance": 1e-6}
    path = write_release(
        root,
        model,
        artifact=bytes(booster.save_raw("ubj")),
        **{"output": output, "golden": {"file": "golden.json"}} | changes,
    )
    (path.parent / "golden.json").write_text(json.dumps(golden))
    return path
