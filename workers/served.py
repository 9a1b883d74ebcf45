"""A release with its model in memory: from a matrix in the signature's columns to what a client gets."""

from typing import Any

import numpy as np

from workers import runtimes
from workers.golden import SamplesDiffer, read_samples
from workers.model_store import Release
from workers.outputs import named_outputs
from workers.preprocessing import Pipeline
from workers.runtimes import Matrix, Model, Remote
from workers.template.output import CONTRIBUTIONS


class Served:
    """Pre-processing, model and post-processing of one release, in a worker child."""

    def __init__(self, release: Release, artifact: bytes) -> None:
        """Load the artifact's (verified) bytes. Raises ValueError, RuntimeError for what doesn't fit the manifest."""
        self.release = release
        self._pipeline = Pipeline(release.manifest)
        self._remote = runtimes.remote(release) if release.manifest.runtime in runtimes.REMOTE else None
        self._local = runtimes.load(release.manifest, artifact) if self._remote is None else None

    @property
    def model(self) -> Model | Remote:
        """What predicts."""
        if self._remote is not None:
            return self._remote
        return self._loaded

    @property
    def _loaded(self) -> Model:
        if self._local is None:
            raise ValueError("the model isn't loaded here")
        return self._local

    def outputs(self, matrix: Matrix, *, explain: bool = False, texts: bool = True) -> dict[str, Any]:
        """Return an array for each output, a row first; with `contributions` among them if asked to explain.

        Without `texts` labels are positions in `output.labels`, but for a container, which gives texts.

        Empty when a container was asked to go on by itself, and does. Raises BadData and StepError of pre-processing,
        MemoryError, ValueError for a number that isn't finite, and what a container's call raises.
        """
        if self._remote is not None:
            return self._remote.outputs(matrix) or {}
        features, margin = self._pipeline.apply(matrix)
        raw = self._loaded.predict(features, margin)
        found = named_outputs(self.release.manifest.output, raw, texts=texts)
        if explain:
            found[CONTRIBUTIONS] = self._loaded.contributions(features, margin)
            raw = np.append(raw, found[CONTRIBUTIONS])
        if not np.isfinite(raw).all():
            raise ValueError("the model gave a value that is not a finite number")
        return found

    def warm_up(self) -> None:
        """Predict once as many rows as the manifest says, so that the first job needn't wait for what that costs.

        A container is asked how it is. Raises RuntimeError if it isn't well.
        """
        if self._remote is not None:
            self._remote.check_health()
            return
        manifest = self.release.manifest
        rows = manifest.warm_up.rows
        features = np.zeros((rows, len(self._pipeline.features)), dtype=np.float32)
        margin = np.zeros((rows, manifest.output.width), dtype=np.float32) if manifest.base_margin else None
        self._loaded.predict(features, margin)
        if manifest.explanations is not None:
            self._loaded.contributions(features[:1], None if margin is None else margin[:1])

    def check_samples(self) -> None:
        """Predict the golden samples, if there are any. Raises SamplesDiffer, GoldenError."""
        samples = read_samples(self.release)
        if samples and (differences := samples.differences(self.outputs(samples.decoded.matrix))):
            raise SamplesDiffer(differences)
