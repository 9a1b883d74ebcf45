"""The manifest: one YAML file that says everything about one version of a model (the serving template)."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

TEMPLATE = 1
Name = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
# What V2 calls a type, for each type of a column.
DATATYPES = {"float": "FP32", "int": "INT64"}


class ManifestError(ValueError):
    """A manifest that can't be served: says the file, the line and what was expected there."""

    def __init__(self, path: Path, line: int, reason: str) -> None:
        self.path, self.line, self.reason = path, line, reason
        super().__init__(f"{path}:{line}: {reason}")


class Part(BaseModel):
    """A part of the manifest: unknown keys are errors, so that a typing error is found and not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Artifact(Part):
    """The model file beside the manifest and its digest, verified before every load."""

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @model_validator(mode="after")
    def _stays_in_its_folder(self) -> Self:
        if self.file.startswith("."):
            raise ValueError("a file beside the manifest, not a hidden one or a folder above")
        return self


class Column(Part):
    """One input column. `range` is inclusive; a value outside is refused at the door, as is a missing one unless declared."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    type: Literal["float", "int"] = "float"
    range: tuple[float, float] | None = None
    missing: bool = False

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.range is not None:
            low, high = self.range
            if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise ValueError("range is [lowest, highest], both finite")
        return self


class Tensor(Part):
    """An output as the client sees it. `width` None means one value a row, else that many values a row."""

    name: str
    datatype: Literal["FP32", "BYTES"]
    width: int | None = None


class Output(Part):
    """What the numbers mean. `binary`: probability of the second label; `multiclass`: one probability a label."""

    kind: Literal["binary", "multiclass", "regression"]
    labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _labels_fit_the_kind(self) -> Self:
        n = len(self.labels)
        if len(set(self.labels)) != n:
            raise ValueError("labels must differ from one another")
        if not {"binary": n == 2, "multiclass": n > 2, "regression": n == 0}[self.kind]:
            raise ValueError(f"{self.kind} doesn't go with {n} labels (binary: 2, multiclass: 3 or more, regression: 0)")
        return self

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The outputs in the order in which they are answered."""
        if self.kind == "regression":
            return (Tensor(name="value", datatype="FP32"),)
        width = None if self.kind == "binary" else len(self.labels)
        return (Tensor(name="probability", datatype="FP32", width=width), Tensor(name="label", datatype="BYTES"))


class Policy(Part):
    """How often a job is tried, the base of the exponential backoff between tries, and how long one try may take."""

    attempts: Annotated[int, Field(ge=1, le=20)] = 3
    backoff_seconds: Annotated[float, Field(ge=0, le=3600)] = 1.0
    timeout_seconds: Annotated[float, Field(gt=0, le=600)] = 30.0


class Training(Part):
    """How the example was made, for `python -m models_store.train`. Serving doesn't read it."""

    dataset: Annotated[str, Field(pattern=r"^load_[a-z_]+$")]
    rounds: Annotated[int, Field(ge=1, le=10_000)]
    seed: int = 0
    params: dict[str, float | int | str] = {}


class Manifest(Part):
    """One version of a model."""

    template: Literal[1]
    model: Name
    version: Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}$")]
    description: str = ""
    runtime: Literal["xgboost"]
    pool: Literal["cpu", "gpu"] = "cpu"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    artifact: Artifact
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=10_000)]
    output: Output
    golden: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")] | None = None
    policy: Policy = Policy()
    training: Training | None = None

    @model_validator(mode="after")
    def _column_names_differ(self) -> Self:
        names = [c.name for c in self.columns]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ValueError(f"column {twice!r} is listed twice")
        return self


def read_manifest(path: Path) -> Manifest:
    """Read and check one manifest. Raises ManifestError with the line at fault."""
    try:
        text = path.read_text(encoding="utf-8")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_repeated_keys(path, node)
        data = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(path, 1, str(error)) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise ManifestError(path, mark.line + 1 if mark else 1, getattr(error, "problem", None) or str(error)) from error
    if not isinstance(data, dict):
        raise ManifestError(path, 1, "expected a mapping with template, model, version …")
    if isinstance(data.get("version"), int) and not isinstance(data["version"], bool):
        data["version"] = str(data["version"])
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise ManifestError(path, _line(node, first["loc"]), f"{where}: {first['msg']}") from error
    for field, folder in (("model", path.parent.parent.name), ("version", path.parent.name)):
        if getattr(manifest, field) != folder:
            reason = f"{field}: {getattr(manifest, field)!r} is not the name of its folder, {folder!r}"
            raise ManifestError(path, _line(node, (field,)), reason)
    return manifest


def _refuse_repeated_keys(path: Path, node: yaml.Node | None) -> None:
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ManifestError(path, key.start_mark.line + 1, f"{key.value}: given twice")
            seen.add(key.value)
            _refuse_repeated_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_repeated_keys(path, item)


def _line(node: Any, location: tuple[int | str, ...]) -> int:
    """Return the line of the deepest part of `location` that the file has (a missing key has no line of its own)."""
    line: int = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return line + 1
