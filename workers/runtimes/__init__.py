"""How a kind of model is loaded and called. A new runtime is one file here and one line in RUNTIMES."""

from importlib import import_module
from typing import Protocol

import numpy as np
import numpy.typing as npt

from workers.manifest import Manifest

Matrix = npt.NDArray[np.float32]

RUNTIMES = {"xgboost": "workers.runtimes.xgb:XGBoostModel"}


class Model(Protocol):
    """A loaded model."""

    device: str
    # The libraries that predict, with their versions.
    libraries: str

    def __init__(self, manifest: Manifest, artifact: bytes) -> None:
        """Load the artifact's (verified) bytes. Raises ValueError when they don't fit the manifest."""

    def predict(self, matrix: Matrix) -> Matrix:
        """Return one row of raw outputs for each row of the C-contiguous float32 matrix."""


def load(manifest: Manifest, artifact: bytes) -> Model:
    """Load a model with the runtime that its manifest names."""
    module, _, name = RUNTIMES[manifest.runtime].partition(":")
    runtime: type[Model] = getattr(import_module(module), name)
    return runtime(manifest, artifact)
