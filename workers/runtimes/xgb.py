"""XGBoost through the fastest call that it has: `inplace_predict` on C-contiguous float32.

Import this module in a worker child only: XGBoost's OpenMP threads don't survive a fork.
"""

import json

import numpy as np
import xgboost

from workers.device import resolve
from workers.manifest import Manifest
from workers.runtimes import Matrix

# How XGBoost says that memory ran out, in C++ and on a GPU: an error like any other to its Python side.
_OUT_OF_MEMORY = ("bad_alloc", "cudaErrorMemoryAllocation", "out of memory")


class XGBoostModel:
    """A Booster, checked against its manifest. `device` is the one in effect, read back from the Booster."""

    libraries = f"xgboost {xgboost.__version__}, numpy {np.__version__}"

    def __init__(self, manifest: Manifest, artifact: bytes) -> None:
        self._booster = xgboost.Booster()
        self._booster.load_model(bytearray(artifact))
        columns = len(manifest.columns)
        if self._booster.num_features() != columns:
            raise ValueError(f"the model takes {self._booster.num_features()} columns, the manifest lists {columns}")
        names = self._booster.feature_names
        if names and list(names) != [c.name for c in manifest.columns]:
            raise ValueError("the manifest's columns are not the model's, in the model's order")
        wanted = resolve(manifest.device)
        # Once, before any predict: set_param during a predict raises.
        self._booster.set_param({"device": wanted, "nthread": 1})
        self.device = _effective_device(self._booster)
        if wanted == "cuda" and not self.device.startswith("cuda"):
            # A GPU without XGBoost's GPU build (requirements-gpu.txt): `auto` then means the CPU.
            self._booster.set_param({"device": "cpu"})
            self.device = _effective_device(self._booster)
        if manifest.device == "cuda" and not self.device.startswith("cuda"):
            raise ValueError("the manifest asks for a GPU, and XGBoost found none")
        self._width = {"binary": 1, "regression": 1, "multiclass": len(manifest.output.labels)}[manifest.output.kind]
        warm = self.predict(np.zeros((1, columns), dtype=np.float32))
        if warm.shape[1] != self._width:
            raise ValueError(f"the model gives {warm.shape[1]} values a row, the manifest's output has {self._width}")

    def predict(self, matrix: Matrix) -> Matrix:
        """Return raw predictions, shape (rows, outputs). NaN in `matrix` is a missing value. Raises MemoryError."""
        try:
            raw = self._booster.inplace_predict(matrix, missing=np.nan, strict_shape=True, validate_features=False)
        except xgboost.core.XGBoostError as error:
            if any(sign in str(error) for sign in _OUT_OF_MEMORY):
                raise MemoryError(str(error)) from error
            raise
        return np.asarray(raw, dtype=np.float32)


def _effective_device(booster: xgboost.Booster) -> str:
    config = json.loads(booster.save_config())
    return str(config["learner"]["generic_param"]["device"])
