"""`python -m bench.gpu`: train on a GPU, predict there and on the CPU through the workers' own runtime, and compare.

Needs a GPU, its driver and XGBoost's GPU build (requirements-gpu.txt). docs/gpu.md says what the columns mean.
"""

import hashlib
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import xgboost

from workers.device import gpu_names
from workers.manifest import Manifest
from workers.runtimes import Matrix
from workers.runtimes.xgb import XGBoostModel

COLUMNS = 28
TRAINED_ON = 200_000
ROUNDS = 200
BATCHES = (1, 64, 256, 4_096, 65_536, 1_000_000)
REPEATS = 20


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one number of rows: the median seconds of a call on each device, and how far the predictions are apart."""

    rows: int
    cpu: float
    gpu: float
    apart: float


def table(rows: int, seed: int = 7) -> Matrix:
    """Return normal numbers, a tenth of them missing."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(rows, COLUMNS)).astype(np.float32)
    values[random.random(values.shape) < 0.1] = np.nan
    return values


def trained(device: str, rows: int = TRAINED_ON, rounds: int = ROUNDS) -> bytes:
    """Train with `hist` on the device. Returns the model's file."""
    values = table(rows)
    target = (np.nan_to_num(values[:, 0]) + np.sin(np.nan_to_num(values[:, 1]) * 3) > 0).astype(np.float32)
    params = {"objective": "binary:logistic", "tree_method": "hist", "device": device, "max_depth": 6, "seed": 7}
    return bytes(xgboost.train(params, xgboost.DMatrix(values, target), num_boost_round=rounds).save_raw("ubj"))


def model_on(device: str, artifact: bytes) -> XGBoostModel:
    """Load the model as a worker does. Raises ValueError for a GPU that isn't there."""
    data: dict[str, Any] = {
        "template": 2,
        "model": "gpu",
        "version": "1",
        "runtime": "xgboost",
        "device": device,
        "artifact": {"file": "model.ubj", "sha256": hashlib.sha256(artifact).hexdigest()},
        "columns": [{"name": f"c{i}", "missing": True} for i in range(COLUMNS)],
        "output": {"kind": "binary", "labels": ["no", "yes"]},
    }
    return XGBoostModel(Manifest.model_validate(data), artifact)


def compared(artifact: bytes, rows: int, repeats: int = REPEATS) -> Figures:
    """Predict the same rows on the CPU and on the GPU."""
    values = table(rows, seed=8)
    on_cpu, cpu = _timed(model_on("cpu", artifact), values, repeats)
    on_gpu, gpu = _timed(model_on("cuda", artifact), values, repeats)
    return Figures(rows, cpu, gpu, float(np.abs(on_cpu - on_gpu).max()))


def _timed(model: XGBoostModel, values: Matrix, repeats: int) -> tuple[Matrix, float]:
    found = model.predict(values)
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        model.predict(values)
        seconds.append(time.perf_counter() - begun)
    return found, float(np.median(seconds))


def main() -> None:
    """Print a table; exit with what is missing where there is no GPU."""
    if not gpu_names():
        sys.exit("There is no GPU that the NVIDIA driver reports (nvidia-smi).")
    print(f"{gpu_names()[0]}, {XGBoostModel.libraries}")
    begun = time.perf_counter()
    artifact = trained("cuda")
    on_gpu = time.perf_counter() - begun
    begun = time.perf_counter()
    trained("cpu")
    print(
        f"training, {TRAINED_ON:,} rows, {ROUNDS} rounds: GPU {on_gpu:.1f} s, CPU {time.perf_counter() - begun:.1f} s"
    )
    print(f"{'rows':>9} {'CPU ms':>9} {'GPU ms':>9} {'furthest apart':>15}")
    for rows in BATCHES:
        found = compared(artifact, rows)
        print(f"{found.rows:>9,} {found.cpu * 1e3:>9.3f} {found.gpu * 1e3:>9.3f} {found.apart:>15.1e}")


if __name__ == "__main__":
    main()
