"""The outputs as the manifest declares them: what the model's numbers mean, and post-processing."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workers.template.parts import Number, Part, Text

# The name of the only output of a kind without labels, unless the manifest names another.
VALUE = {"regression": "value", "ranking": "score", "survival": "time"}
CONTRIBUTIONS = "contributions"


class Tensor(Part):
    """An output as the client sees it: `shape` is what one row has of it, () one value."""

    name: str
    datatype: Literal["FP32", "BYTES"]
    shape: tuple[int, ...] = ()


class Platt(Part):
    """Calibrated: 1 / (1 + exp(-(slope * x + intercept))), x being the log-odds of the model's probability."""

    method: Literal["platt"]
    slope: Number
    """What the log-odds are multiplied by."""
    intercept: Number
    """What is added to that."""


class Isotonic(Part):
    """Calibrated: a line through points, from the model's probability (x, rising) to the answered one (y)."""

    method: Literal["isotonic"]
    x: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=2)]
    """Probabilities of the model, rising."""
    y: Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=2)]
    """What is answered for each of them, never falling."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if len(self.x) != len(self.y):
            raise ValueError("x and y have as many numbers")
        if any(low >= high for low, high in zip(self.x, self.x[1:], strict=False)):
            raise ValueError("x rises from number to number")
        if any(low > high for low, high in zip(self.y, self.y[1:], strict=False)):
            raise ValueError("y never falls")
        return self


Calibration = Annotated[Platt | Isotonic, Field(discriminator="method")]


class Output(Part):
    """What the numbers mean. `binary`: probability of the second label; `multiclass`: one probability a label.

    The other kinds have one output for each of `names`: a target, a quantile, a score, a time.
    """

    kind: Literal["binary", "multiclass", "regression", "ranking", "survival"]
    """What the numbers are."""
    labels: tuple[Text, ...] = ()
    """2 for binary, 3 or more for multiclass, in the order of the model's classes."""
    names: tuple[Text, ...] = ()
    """The outputs of the other kinds: targets or quantiles in the model's order."""
    threshold: Annotated[float, Field(gt=0, lt=1)] | None = None
    """The second label from this probability on; 0.5 if it is left out."""
    top_k: Annotated[int, Field(ge=1)] | None = None
    """Only so many labels, the most probable one first, with their probabilities."""
    round: Annotated[int, Field(ge=0, le=9)] | None = None
    """Digits behind the point of the answered numbers; contributions aren't rounded."""
    calibration: Calibration | None = None
    """Makes a better probability of the model's one."""

    @model_validator(mode="after")
    def _labels_fit_the_kind(self) -> Self:
        n = len(self.labels)
        if len(set(self.labels)) != n:
            raise ValueError("labels must differ from one another")
        if not {"binary": n == 2, "multiclass": n > 2}.get(self.kind, n == 0):
            raise ValueError(
                f"{self.kind} doesn't go with {n} labels (binary: 2, multiclass: 3 or more, other kinds: none)"
            )
        return self

    @model_validator(mode="after")
    def _names_fit_the_kind(self) -> Self:
        if self.names and self.kind not in VALUE:
            raise ValueError(f"{self.kind} has labels and no names")
        if len(self.names) > 1 and self.kind != "regression":
            raise ValueError(f"{self.kind} has one number a row, and one name")
        if len(set(self.names)) != len(self.names):
            raise ValueError("names must differ from one another")
        if CONTRIBUTIONS in self.names:
            raise ValueError(f"'{CONTRIBUTIONS}' is the name of the explanations")
        return self

    @model_validator(mode="after")
    def _post_processing_fits_the_kind(self) -> Self:
        for field, kind in (("threshold", "binary"), ("calibration", "binary"), ("top_k", "multiclass")):
            if getattr(self, field) is not None and self.kind != kind:
                raise ValueError(f"{field} goes with {kind}")
        if self.top_k is not None and self.top_k > len(self.labels):
            raise ValueError(f"top_k is more than the {len(self.labels)} labels")
        return self

    @property
    def values(self) -> tuple[str, ...]:
        """The names of the outputs of a kind without labels."""
        return self.names or (VALUE[self.kind],)

    @property
    def width(self) -> int:
        """How many numbers a row the model gives."""
        return {"binary": 1, "multiclass": len(self.labels)}.get(self.kind) or len(self.values)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The outputs in the order in which they are answered."""
        if self.kind in VALUE:
            return tuple(Tensor(name=name, datatype="FP32") for name in self.values)
        shape = () if self.kind == "binary" else (self.top_k or len(self.labels),)
        labels = () if self.top_k is None else shape
        return (
            Tensor(name="probability", datatype="FP32", shape=shape),
            Tensor(name="label", datatype="BYTES", shape=labels),
        )
