"""Train an example model from the `training` part of its manifest: `python -m models_store.train breast_cancer/1`.

Writes the model file, golden samples and, back into the manifest, what follows from them: columns, output, sha256.
Needs scikit-learn (requirements-dev.txt) for its bundled data sets.
"""

import argparse
from pathlib import Path
from typing import Any

import yaml

from models_store import datasets
from workers.device import resolve
from workers.making.describe import as_listed, output
from workers.making.fit import fit
from workers.making.version import ARTIFACT, complete, some_rows
from workers.manifest import Training

ROOT = Path(__file__).parent


def train(folder: Path) -> Path:
    """Train the model whose `manifest.yaml` is in `folder` and complete that manifest. Returns its path."""
    path = folder / "manifest.yaml"
    head, manifest = _read(path)
    training = Training.model_validate(manifest["training"])
    table = datasets.load(training.dataset)
    device = resolve("auto")
    params = training.params | {"device": device, "seed": training.seed, "nthread": 1}
    # In the file a model holds no device; it predicts wherever it is loaded.
    artifact = bytes(fit(table, params, training.rounds).save_raw("ubj"))
    (folder / ARTIFACT).write_bytes(artifact)
    manifest["artifact"] = {"file": ARTIFACT}
    manifest["columns"] = as_listed(table.columns)
    # What was added to the output by hand, such as a threshold, stays.
    manifest["output"] = manifest.get("output", {}) | output(table.labels)
    complete(folder, manifest, some_rows(table.matrix), head)
    print(f"{path}: {len(table.matrix)} rows, {training.rounds} rounds on {device}, {len(artifact):,} bytes")
    return path


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    text = path.read_text()
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    return head, yaml.safe_load(text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("release", nargs="+", help="<model>/<version>, such as breast_cancer/1")
    for release in parser.parse_args().release:
        train(ROOT / release)
