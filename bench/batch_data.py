"""What the batches of the benchmark run on: tables in Parquet, made once, and a model in a store of its own."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost

from models_store.train import ROOT as EXAMPLES
from workers.making.version import ARTIFACT, some_rows, write_version
from workers.runtimes import Matrix

COLUMNS = tuple(f"c{i:02d}" for i in range(28))
GROUP_ROWS = 250_000
MODEL = "trees"
TREES = 200
DEPTH = 6
TRAINED_ON = 100_000
SEED = 7


def table(folder: Path, rows: int) -> Path:
    """Return a Parquet file of so many rows; it is made if it isn't there yet."""
    path = folder / f"{rows}.parquet"
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    # Whoever stops it leaves no half file under the name.
    part = path.with_suffix(".part")
    schema = pa.schema([(name, pa.float32()) for name in COLUMNS])
    with pq.ParquetWriter(part, schema, use_dictionary=False) as writer:
        for number, first in enumerate(range(0, rows, GROUP_ROWS)):
            values = numbers(min(GROUP_ROWS, rows - first), number)
            columns = [pa.array(np.ascontiguousarray(column)) for column in values.T]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema), row_group_size=GROUP_ROWS)
    os.rename(part, path)
    return path


def numbers(rows: int, number: int) -> Matrix:
    """Return normal numbers, the same for the same `number`."""
    return np.random.default_rng((SEED, number)).standard_normal((rows, len(COLUMNS)), dtype=np.float32)


def store(folder: Path) -> Path:
    """Return a model store with the benchmark's model and the example `wine`; it is made if it isn't there yet."""
    path = folder / "store"
    if not (path / MODEL / "1" / "manifest.yaml").exists():
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)
        shutil.copytree(EXAMPLES / "wine", path / "wine")
        _write_model(path)
    return path


def model_file(store: Path) -> Path:
    """Return the model's file, as XGBoost reads it."""
    return store / MODEL / "1" / ARTIFACT


def _write_model(store: Path) -> None:
    # Another number than any row group's: the model hasn't seen what it predicts.
    values = numbers(TRAINED_ON, 2**32)
    noise = np.random.default_rng(SEED).standard_normal(TRAINED_ON)
    target = values[:, 0] * values[:, 1] + np.sin(3 * values[:, 2]) + values[:, 3:].sum(axis=1) / 5 + noise > 0
    data = xgboost.DMatrix(values, target, feature_names=list(COLUMNS))
    params = {"objective": "binary:logistic", "tree_method": "hist", "max_depth": DEPTH, "seed": SEED}
    booster = xgboost.train(params, data, num_boost_round=TREES)
    manifest: dict[str, Any] = {
        "template": 2,
        "description": f"{TREES} trees of depth {DEPTH}, for the benchmark.",
        "runtime": "xgboost",
        # So that all chunks are computed alike, and as the script does it, whatever this machine has.
        "device": "cpu",
        "artifact": {"file": ARTIFACT},
        "columns": [{"name": name} for name in COLUMNS],
        "output": {"kind": "binary", "labels": ["no", "yes"]},
    }
    write_version(store, MODEL, manifest, {ARTIFACT: bytes(booster.save_raw("ubj"))}, some_rows(values), "")
