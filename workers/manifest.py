"""The manifest: one YAML file that says everything about one version of a model (the serving template)."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator
from yaml.reader import ReaderError

TEMPLATE = 1
Name = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,64}$")]
# One line; the pattern also keeps out lone surrogates, which no JSON answer could carry.
Text = Annotated[str, Field(pattern=r"^\P{Cc}{1,200}$")]
# `version: 1` is a number in YAML; a folder's name is text.
Version = Annotated[
    str,
    Field(pattern=r"^[1-9][0-9]{0,8}$"),
    BeforeValidator(lambda value: str(value) if type(value) is int else value),
]
FLOAT32_MAX = 3.4028234663852886e38
# What V2 calls a type, for each type of a column.
DATATYPES = {"float": "FP32", "int": "INT64", "category": "BYTES"}


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

    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,200}$")]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    @model_validator(mode="after")
    def _stays_in_its_folder(self) -> Self:
        if self.file.startswith("."):
            raise ValueError("a file beside the manifest, not a hidden one or a folder above")
        return self


class Column(Part):
    """One input column. Refused at the door: a value outside `range` (inclusive), a missing one unless declared.

    A `category` takes one of the texts in `categories`; the model gets the text's position there, from 0.
    """

    name: Text
    type: Literal["float", "int", "category"] = "float"
    range: tuple[float, float] | None = None
    categories: tuple[Text, ...] = ()
    missing: bool = False

    @model_validator(mode="after")
    def _range_is_ordered(self) -> Self:
        if self.range is not None:
            low, high = self.range
            if not -FLOAT32_MAX <= low <= high <= FLOAT32_MAX:
                raise ValueError("range is [lowest, highest], both finite float32 numbers")
        return self

    @model_validator(mode="after")
    def _categories_fit_the_type(self) -> Self:
        if (self.type == "category") != bool(self.categories):
            raise ValueError("categories go with the type category, which needs at least one")
        if self.type == "category" and self.range is not None:
            raise ValueError("a category has no range")
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("categories must differ from one another")
        return self


class Tensor(Part):
    """An output as the client sees it. `width` None means one value a row, else that many values a row."""

    name: str
    datatype: Literal["FP32", "BYTES"]
    width: int | None = None


class Output(Part):
    """What the numbers mean. `binary`: probability of the second label; `multiclass`: one probability a label."""

    kind: Literal["binary", "multiclass", "regression"]
    labels: tuple[Text, ...] = ()

    @model_validator(mode="after")
    def _labels_fit_the_kind(self) -> Self:
        n = len(self.labels)
        if len(set(self.labels)) != n:
            raise ValueError("labels must differ from one another")
        if not {"binary": n == 2, "multiclass": n > 2, "regression": n == 0}[self.kind]:
            raise ValueError(
                f"{self.kind} doesn't go with {n} labels (binary: 2, multiclass: 3 or more, regression: 0)"
            )
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
    version: Version
    description: Annotated[str, Field(pattern=r"^[^\x00]*$")] = ""
    runtime: Literal["xgboost"]
    pool: Literal["cpu", "gpu"] = "cpu"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    artifact: Artifact
    columns: Annotated[tuple[Column, ...], Field(min_length=1, max_length=10_000)]
    output: Output
    golden: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*$")] | None = None
    policy: Policy = Policy()
    training: Training | None = None

    @field_validator("columns")
    @classmethod
    def _column_names_differ(cls, columns: tuple[Column, ...]) -> tuple[Column, ...]:
        names = [c.name for c in columns]
        if len(set(names)) != len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise ValueError(f"column {twice!r} is listed twice")
        return columns


def read_manifest(path: Path) -> Manifest:
    """Read and check one manifest. Raises ManifestError with the line at fault."""
    node, data = _load(path)
    if not isinstance(data, dict):
        raise ManifestError(path, 1, "expected a mapping with template, model, version …")
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


class _Loader(yaml.SafeLoader):
    """Plain YAML: no aliases, which can be endless or explode, and each key once, as text. Every error has its line."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases aren't read here", problem_mark=self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag != "tag:yaml.org,2002:str":
                raise yaml.MarkedYAMLError(problem="a key is plain text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value}: given twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:
            # PyYAML raises whatever it stumbles upon for values such as `2020-99-99` or `!!int ""`.
            kind = node.tag.rpartition(":")[2]
            raise yaml.MarkedYAMLError(problem=f"this is no {kind}: {error}", problem_mark=node.start_mark) from error


def _load(path: Path) -> tuple[Any, Any]:
    """Return the file as YAML nodes, which know their lines, and as data. Raises ManifestError."""
    content = b""
    try:
        content = path.read_bytes()
        loader = _Loader(content.decode())
        node = loader.get_single_node()
        return node, loader.construct_document(node) if node else None
    except OSError as error:
        raise ManifestError(path, 1, str(error)) from error
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestError(path, line, f"not UTF-8: {error.reason}") from error
    except ReaderError as error:
        line = content.decode()[: error.position].count("\n") + 1
        raise ManifestError(path, line, f"character #x{error.character:x}: {error.reason}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise ManifestError(path, mark.line + 1 if mark else 1, error.problem or str(error)) from error
    except RecursionError as error:
        raise ManifestError(path, 1, "nested too deeply") from error


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
