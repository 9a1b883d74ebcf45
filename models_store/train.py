"""Train an example model from the `training` part of its manifest: `python -m models_store.train breast_cancer/1`.

Writes the model file, golden samples and, back into the manifest, what follows from them: columns, labels, sha256.
Needs scikit-learn (requirements-dev.txt) for its bundled data sets.
"""

import argparse
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import sklearn.datasets
import xgboost
import yaml

from workers.device import resolve
from workers.manifest import Training

ROOT = Path(__file__).parent
GOLDEN_ROWS = 8
# Other hardware adds floats in another order; a wrong model is off by far more.
GOLDEN_TOLERANCE = 1e-5


def train(folder: Path) -> Path:
    """Train the model whose `manifest.yaml` is in `folder` and complete that manifest. Returns its path."""
    path = folder / "manifest.yaml"
    head, manifest = _read(path)
    training = Training.model_validate(manifest["training"])
    data = getattr(sklearn.datasets, training.dataset)()
    features, target = data.data.astype(np.float32), data.target
    names = [str(n) for n in data.feature_names]
    labels = [str(n) for n in data.target_names]
    objective = (
        {"objective": "binary:logistic"}
        if len(labels) == 2
        else {"objective": "multi:softprob", "num_class": len(labels)}
    )
    device = resolve("auto")
    params = {
        **training.params,
        **objective,
        "tree_method": "hist",
        "device": device,
        "seed": training.seed,
        "nthread": 1,
    }
    matrix = xgboost.DMatrix(features, label=target, feature_names=names)
    booster = xgboost.train(params, matrix, num_boost_round=training.rounds)
    # In the file a model holds no device; it predicts wherever it is loaded.
    artifact = bytes(booster.save_raw("ubj"))
    (folder / "model.ubj").write_bytes(artifact)

    picks = np.linspace(0, len(features) - 1, GOLDEN_ROWS).astype(int)
    raw = booster.inplace_predict(features[picks], strict_shape=True)
    golden = {
        "inputs": features[picks].tolist(),
        "raw": np.asarray(raw, np.float32).tolist(),
        "tolerance": GOLDEN_TOLERANCE,
    }
    (folder / "golden.json").write_text(json.dumps(golden, indent=1) + "\n")

    manifest["artifact"] = {"file": "model.ubj", "sha256": hashlib.sha256(artifact).hexdigest()}
    manifest["columns"] = [
        {"name": name, "type": "float", "range": plausible_range(values)}
        for name, values in zip(names, features.T, strict=True)
    ]
    manifest["output"] = {"kind": "binary" if len(labels) == 2 else "multiclass", "labels": labels}
    manifest["golden"] = "golden.json"
    order = [k for k in manifest if k != "training"] + ["training"]
    text = yaml.safe_dump({k: manifest[k] for k in order}, sort_keys=False, width=118, default_flow_style=None)
    path.write_text(head + text)
    print(f"{path}: {len(features)} rows, {training.rounds} rounds on {device}, {len(artifact):,} bytes")
    return path


def plausible_range(values: Any) -> list[float]:
    """Return [lowest, highest]: a decade or more of room around what was seen; never negative if nothing was."""
    top = max(1000.0, 10.0 ** (math.ceil(math.log10(max(float(np.abs(values).max()), 1e-6))) + 1))
    return [0.0 if values.min() >= 0 else -top, top]


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    text = path.read_text()
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    return head, yaml.safe_load(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", nargs="+", help="<model>/<version>, such as breast_cancer/1")
    for release in parser.parse_args().release:
        train(ROOT / release)
