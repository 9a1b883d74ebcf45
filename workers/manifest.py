"""The manifest: one YAML file that says everything about one version of a model (the serving template)."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from workers.template.columns import Column
from workers.template.container import Container
from workers.template.layout import Misfit, features
from workers.template.output import CONTRIBUTIONS, Output, Tensor
from workers.template.parts import FileName, Name, Part, SinkName, Text, Version
from workers.template.steps import Step
from workers.template.upgrades import upgraded
from workers.template.yaml_file import ManifestError, line_of, load

# One predict call, unless the manifest says otherwise: above some hundred rows a larger matrix gains nothing, and one
# message stays small.
BUNDLE_ROWS = 256
# The pool of explanations: one costs some hundred predictions, and would hold up what waits behind it.
EXPLAIN = "explain"
# The pool of models in containers: its workers wait for others, and need a way out.
CONTAINER = "container"
# The pool of batches: of their steps, whatever the model's own pool, and of models that want to be there.
BATCH = "batch"


class Artifact(Part):
    """The model file beside the manifest and its digest, verified before every load."""

    file: FileName
    """The model file, beside the manifest."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Its digest, checked before every load."""


class Golden(Part):
    """Inputs with the outputs that are expected of them, and how far a number may be off: absolute or relative."""

    file: FileName
    """The golden samples, beside the manifest."""
    absolute: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """How far a number may be off; without it the tolerance that the file names, or 0.00001."""
    relative: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """How far a number may be off beside that, as a part of the expected one."""


class Policy(Part):
    """How often a job is tried, the base of the exponential backoff between tries, and how long one try may take."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    """How often a job is tried."""
    backoff_seconds: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """The wait before the second attempt; it doubles each time, and half of it is random."""
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long one call may take; then the worker's child is killed, and the attempt counts as lost."""


class MicroBatch(Part):
    """How many rows of several jobs go into one predict call at the most; 1 lets each job be alone."""

    max_rows: Annotated[int, Field(ge=1, le=4096)] = BUNDLE_ROWS
    """The most rows of several jobs in one call."""


class WarmUp(Part):
    """How many rows are predicted once after loading, before the first job."""

    rows: Annotated[int, Field(ge=1, le=65_536)] = 1
    """How many rows."""


class Explanations(Part):
    """SHAP contributions on request: the output `contributions`, for so many rows a job at the most."""

    max_rows: Annotated[int, Field(ge=1, le=10_000)] = 100
    """The most rows of a job that asks for contributions."""


class Training(Part):
    """How the example was made, for `python -m models_store.train`. Serving doesn't read it."""

    dataset: Annotated[str, Field(pattern=r"^(load|generate)_[a-z_]+$")]
    """A loader of scikit-learn, or a generator of models_store."""
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    """Trees, for each class."""
    seed: int = 0
    """Where chance begins."""
    params: dict[str, float | int | str] = {}
    """Further parameters of XGBoost."""


class Manifest(Part):
    """One version of a model."""

    template: Literal[2]
    """The version of this form."""
    model: Name
    """The name; that of the folder."""
    version: Version
    """The version, a whole number; that of the folder."""
    description: Annotated[str, Field(pattern=r"^[^\x00]*$")] = ""
    """For people."""
    runtime: Literal["xgboost", "container"]
    """What loads and calls the model file; container asks a container of the model's own instead."""
    pool: Literal["cpu", "gpu", "batch", "container"] = "cpu"
    """Which workers get its jobs; container for the runtime container, and only for it."""
    device: Annotated[str, Field(pattern=r"^(auto|cpu|cuda|cuda:[0-9]{1,2})$")] = "auto"
    """What the model runs on: auto takes a GPU if the worker's machine has one, cuda and cuda:N fail without."""
    artifact: Artifact | None = None
    """The model file; of every runtime but container."""
    container: Container | None = None
    """Where the container is and how it is asked; of the runtime container."""
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=10_000)]
    """The input columns, what a client sends."""
    preprocessing: tuple[Step, ...] = ()
    """Steps, one after the other, from the columns to the model's features."""
    base_margin: tuple[Text, ...] = ()
    """Columns that the steps leave and that are no features but the base margin: one for each number of the model."""
    tree_range: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] | None = None
    """The trees that count, [first, end], without the end; all of them if it is left out."""
    output: Output
    """What the model's numbers mean, and what is made of them."""
    explanations: Explanations | None = None
    """SHAP contributions on request; not offered without this key."""
    golden: Golden | None = None
    """Golden samples: compared whenever a worker loads the model, and before a release."""
    policy: Policy = Policy()
    """How often and how long a job is tried."""
    micro_batch: MicroBatch = MicroBatch()
    """Rows of several jobs in one call."""
    warm_up: WarmUp = WarmUp()
    """What is predicted once after loading."""
    sink: SinkName | None = None
    """The sink that results go to unless a request names another one; an operator has configured it."""
    training: Training | None = None
    """How the example was made; serving doesn't read it."""

    @field_validator("columns")
    @classmethod
    def _column_names_differ(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        names = [c.name for c in columns]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ValueError(f"column {twice!r} is listed twice")
        return columns

    @model_validator(mode="after")
    def _tree_range_is_ordered(self) -> Self:
        if self.tree_range is not None and self.tree_range[0] >= self.tree_range[1]:
            raise ValueError("tree_range is [first, end], the end being larger")
        return self

    @model_validator(mode="after")
    def _parts_fit_the_runtime(self) -> Self:
        if self.runtime != "container":
            if self.artifact is None:
                raise ValueError(f"artifact is missing: the runtime {self.runtime} needs a model file")
            if self.container is not None or self.pool == CONTAINER:
                raise ValueError("container, and the pool of that name, go with runtime: container")
            return self
        if self.container is None:
            raise ValueError("container is missing: the runtime of that name needs to know where it is")
        if self.pool != CONTAINER:
            raise ValueError("runtime: container goes with pool: container")
        own = ("artifact", "preprocessing", "base_margin", "tree_range", "explanations", "training")
        for name in own:
            if getattr(self, name):
                raise ValueError(f"{name} doesn't go with runtime: container, which does all that itself")
        for name in ("threshold", "calibration", "round"):
            if getattr(self.output, name) is not None:
                raise ValueError(f"output.{name} doesn't go with runtime: container, which does that itself")
        if self.container.timeout_seconds >= self.policy.timeout_seconds:
            raise ValueError(
                f"container.timeout_seconds ({self.container.timeout_seconds:g}) is to be less than "
                f"policy.timeout_seconds ({self.policy.timeout_seconds:g}), when the worker itself is ended"
            )
        return self

    @cached_property
    def sha256(self) -> str:
        """What tells this release from any other: the digest of the model file, or of the section `container`."""
        if self.container is None:
            # `_parts_fit_the_runtime` has seen it.
            return "" if self.artifact is None else self.artifact.sha256
        return hashlib.sha256(self.container.model_dump_json().encode()).hexdigest()

    def tensors(self, *, explain: bool) -> tuple[Tensor, ...]:
        """Return the outputs in the order in which they are answered; with the contributions if asked to explain."""
        if not explain:
            return self.output.tensors
        layout = features(self.columns, self.preprocessing, self.base_margin, self.output.width)
        # A value for each feature, and what they all begin with.
        one = (len(layout.names) + 1,)
        shape = one if self.output.width == 1 else (self.output.width, *one)
        return (*self.output.tensors, Tensor(name=CONTRIBUTIONS, datatype="FP32", shape=shape))

    @property
    def offered(self) -> tuple[Tensor, ...]:
        """The outputs that may be asked for. Without being asked for by its name, contributions aren't answered."""
        return self.tensors(explain=self.explanations is not None)

    @property
    def pools(self) -> tuple[str, ...]:
        """The pools whose workers do its jobs: its own, and the one of explanations if it gives any."""
        return (self.pool,) if self.explanations is None else (self.pool, EXPLAIN)


def read_manifest(path: Path) -> Manifest:
    """Read and check one manifest, also one of an older template. Raises ManifestError with the line at fault."""
    node, data = load(path)
    if not isinstance(data, dict):
        raise ManifestError(path, 1, "expected a mapping with template, model, version …")
    try:
        manifest = Manifest.model_validate(upgraded(data))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise ManifestError(path, line_of(node, first["loc"]), f"{where}: {first['msg']}") from error
    for field, folder in (("model", path.parent.parent.name), ("version", path.parent.name)):
        if getattr(manifest, field) != folder:
            reason = f"{field}: {getattr(manifest, field)!r} is not the name of its folder, {folder!r}"
            raise ManifestError(path, line_of(node, (field,)), reason)
    try:
        features(manifest.columns, manifest.preprocessing, manifest.base_margin, manifest.output.width)
    except Misfit as error:
        raise ManifestError(path, line_of(node, error.location), str(error)) from error
    return manifest
