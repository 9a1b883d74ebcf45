"""XGBoost through the fastest call that it has: `inplace_predict` on C-contiguous float32.

Import this module in a worker child only: XGBoost's OpenMP threads don't survive a fork.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from workers.device import gpu_names, resolve
from workers.manifest import Manifest
from workers.model_file.reader import read_model
from workers.runtimes import Matrix

# XGBoost imports scikit-learn wherever it is installed, for wrappers that nobody uses here: 1.2 of a child's 1.8 s.
_hidden = sys.modules.setdefault("sklearn", None) is None  # type: ignore[arg-type]
import xgboost  # noqa: E402

if _hidden:
    del sys.modules["sklearn"]

# How XGBoost says that memory ran out, in C++ and on a GPU: an error like any other to its Python side.
_OUT_OF_MEMORY = ("bad_alloc", "cudaErrorMemoryAllocation", "out of memory")
# These objectives give something else than probabilities: what makes some of their margins.
_FROM_MARGIN = {"binary:logitraw": "sigmoid", "multi:softmax": "softmax"}


class XGBoostModel:
    """A Booster, checked against its manifest. `device` is the one in effect, read back from the Booster."""

    libraries = f"xgboost {xgboost.__version__}, numpy {np.__version__}"

    def __init__(self, manifest: Manifest, artifact: bytes) -> None:
        """Raise ModelFileError or ValueError, before XGBoost sees the file, for one that is unsound or doesn't fit."""
        file = read_model(artifact)
        for fault in file.faults(manifest):
            raise ValueError(fault)
        self._booster = xgboost.Booster()
        self._booster.load_model(bytearray(artifact))
        # Once, before any predict: set_param during a predict raises.
        self.device = _use(self._booster, manifest)
        # (0, 0) is all trees.
        self._range = manifest.tree_range or (0, 0)
        self._from_margin = _FROM_MARGIN.get(file.objective, "")
        # Of two classes the second one's.
        self._columns = slice(1, 2) if file.objective.startswith("multi:") and file.width == 1 else slice(None)
        self._booster_name = file.booster

    def predict(self, features: Matrix, margin: Matrix | None = None) -> Matrix:
        """Return the numbers of each row, shape (rows, width). NaN is a missing value. Raises MemoryError."""
        options = {"iteration_range": self._range, "strict_shape": True, "validate_features": False}
        # gblinear has no inplace_predict; that of dart is wrong with a base margin (XGBoost 3.2.0: off by up to 5).
        slow = self._booster_name == "gblinear" or (self._booster_name == "dart" and margin is not None)
        with _memory_errors():
            if slow:
                data = xgboost.DMatrix(features, base_margin=margin, nthread=1)
                raw = self._booster.predict(data, output_margin=bool(self._from_margin), **options)
            else:
                kind = "margin" if self._from_margin else "value"
                raw = self._booster.inplace_predict(
                    features, predict_type=kind, missing=np.nan, base_margin=margin, **options
                )
        return _probabilities(raw, self._from_margin)[:, self._columns]

    def contributions(self, features: Matrix, margin: Matrix | None = None) -> Matrix:
        """Return SHAP values in the order of the features, the bias last. Raises MemoryError.

        They add up to the margin: the log-odds, the score before softmax, or the logarithm of what is predicted.
        """
        with _memory_errors():
            data = xgboost.DMatrix(features, base_margin=margin, nthread=1)
            values = self._booster.predict(
                data, pred_contribs=True, iteration_range=self._range, strict_shape=True, validate_features=False
            )
        values = np.asarray(values, dtype=np.float32)[:, self._columns]
        return values[:, 0] if values.shape[1] == 1 else values


def _use(booster: xgboost.Booster, manifest: Manifest) -> str:
    """Set the manifest's device. Returns the one in effect; raises ValueError for a GPU that isn't there."""
    required = manifest.device.startswith("cuda") or manifest.pool == "gpu"
    _, _, number = manifest.device.partition(":")
    if number and int(number) >= len(gpu_names()):
        raise ValueError(f"the manifest asks for {manifest.device}, this machine has {len(gpu_names())} GPUs")
    booster.set_param({"device": resolve(manifest.device), "nthread": 1})
    device = _effective_device(booster)
    if not device.startswith("cuda"):
        if required:
            raise ValueError("the manifest asks for a GPU, and XGBoost found none")
        # A GPU without XGBoost's GPU build (requirements-gpu.txt): `auto` then means the CPU.
        booster.set_param({"device": "cpu"})
        device = _effective_device(booster)
    return device


def _effective_device(booster: xgboost.Booster) -> str:
    config = json.loads(booster.save_config())
    return str(config["learner"]["generic_param"]["device"])


def _probabilities(raw: Any, made_by: str) -> Matrix:
    values: Matrix = np.asarray(raw, dtype=np.float32)
    if made_by == "sigmoid":
        # exp of a large number is infinite, and the probability 0, as it should be.
        with np.errstate(over="ignore"):
            values = np.float32(1) / (np.float32(1) + np.exp(-values))
    elif made_by == "softmax":
        powers: Matrix = np.exp(values - values.max(axis=1, keepdims=True))
        values = powers / powers.sum(axis=1, keepdims=True)
    return values


@contextmanager
def _memory_errors() -> Iterator[None]:
    """Raise MemoryError for XGBoost's own kind of it."""
    try:
        yield
    except xgboost.core.XGBoostError as error:
        if any(sign in str(error) for sign in _OUT_OF_MEMORY):
            raise MemoryError(str(error)) from error
        raise
