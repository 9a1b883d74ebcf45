"""How a kind of model is loaded and called. A new runtime is one file here and one line in RUNTIMES."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from workers.manifest import Manifest

if TYPE_CHECKING:
    from workers.model_store import Release

Matrix = npt.NDArray[np.float32]

RUNTIMES = {"xgboost": "workers.runtimes.xgb:XGBoostModel"}
# Those that ask elsewhere, where steps and outputs are made, too.
REMOTE = {"container": "workers.runtimes.container:ContainerModel"}


class Model(Protocol):
    """A loaded model. What it gets are the features after pre-processing, and the base margin where there is one."""

    device: str
    # The libraries that predict, with their versions.
    libraries: str

    def __init__(self, manifest: Manifest, artifact: bytes) -> None:
        """Load the artifact's (verified) bytes. Raises ValueError when they don't fit the manifest."""

    def predict(self, features: Matrix, margin: Matrix | None = None) -> Matrix:
        """Return `output.width` numbers for each row of the C-contiguous float32 matrix.

        Of a classification these are probabilities, whatever the model itself gives.
        """

    def contributions(self, features: Matrix, margin: Matrix | None = None) -> Matrix:
        """Return what each feature adds to each row's raw number, and as the last one what they all begin with.

        The shape is (rows, features + 1), or (rows, width, features + 1) of a model with several numbers a row.
        """


class Remote(Protocol):
    """A model that is asked elsewhere, from a client's columns to what a client gets."""

    device: str
    libraries: str

    def __init__(self, release: "Release") -> None:
        """Get ready; nothing is asked yet."""

    def outputs(self, matrix: Matrix) -> dict[str, Any] | None:
        """Return an array for each output, a row first; None when it was only taken on."""

    def check_health(self) -> None:
        """Raise RuntimeError unless it can be reached."""


def runtime(name: str) -> Any:
    """Return the runtime of that name, a Model's or a Remote's class; imports its libraries."""
    module, _, its_class = (RUNTIMES | REMOTE)[name].partition(":")
    return getattr(import_module(module), its_class)


def load(manifest: Manifest, artifact: bytes) -> Model:
    """Load a model with the runtime that its manifest names."""
    model: Model = runtime(manifest.runtime)(manifest, artifact)
    return model


def remote(release: "Release") -> Remote:
    """Return the model that is asked elsewhere."""
    model: Remote = runtime(release.manifest.runtime)(release)
    return model
