"""Pre-processing as the manifest declares it: steps in order, from the signature's columns to the model's features.

Each step works on named columns of what the steps before it left. Texts of a `category` column are positions by then.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from workers.template.parts import Number, Part, Text

Columns = Annotated[tuple[Text, ...], Field(min_length=1, max_length=10_000)]


class Select(Part):
    """Keep these columns, in this order; the others are dropped."""

    step: Literal["select"]
    columns: Columns
    """What is kept."""


class Cast(Part):
    """Make whole numbers (towards zero) or truth values (0 or 1: is it other than 0) of the columns' values."""

    step: Literal["cast"]
    columns: Columns
    """The columns that change."""
    to: Literal["int", "bool"]
    """int drops the fraction, bool makes 0 or 1."""


class Fill(Part):
    """Put a value in the place of missing ones."""

    step: Literal["fill"]
    columns: Columns
    """The columns that change."""
    value: Number
    """What a missing value becomes."""


class Clip(Part):
    """Limit values to `low` and `high`, either of which may be left out."""

    step: Literal["clip"]
    columns: Columns
    """The columns that change."""
    low: Number | None = None
    """The lowest value."""
    high: Number | None = None
    """The highest value."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("clip needs low or high")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError("low is above high")
        return self


class Log(Part):
    """Take the natural logarithm of the value plus `plus`. A value for which there is none is bad data."""

    step: Literal["log"]
    columns: Columns
    """The columns that change."""
    plus: Number = 0.0
    """What is added before."""


class Scale(Part):
    """Subtract `center`, then divide by `scale`."""

    step: Literal["scale"]
    columns: Columns
    """The columns that change."""
    center: Number = 0.0
    """What is subtracted."""
    scale: Number = 1.0
    """What is divided by."""

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.scale == 0:
            raise ValueError("scale is what is divided by, and not 0")
        return self


class OneHot(Part):
    """Put, for a column of categories, a column for each of them in its place: `<column>=<category>`, 1 or 0.

    A missing value has 0 in all of them.
    """

    step: Literal["one_hot"]
    column: Text
    """The column of categories."""


class Codes(Part):
    """Put, for a column of categories, a number for each of them, instead of its position."""

    step: Literal["codes"]
    column: Text
    """The column of categories."""
    codes: Annotated[dict[Text, Number], Field(min_length=1)]
    """A number for each category."""


class Custom(Part):
    """Call a function of an allowed package (`MODEL_STEP_PACKAGES`): `call` is `package.module:function`.

    It takes a dict of these columns by name, float32 arrays with NaN for missing, and returns one of the columns in
    `returns`: a new one comes after the others, one of a name that there is takes its place. Each row is for itself:
    an array may hold rows of several jobs.
    """

    step: Literal["custom"]
    call: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*$")]
    """The function: package.module:function."""
    columns: Columns
    """The columns that it takes."""
    returns: Columns
    """The columns that it returns."""


Step = Annotated[
    Select | Cast | Fill | Clip | Log | Scale | OneHot | Codes | Custom,
    Field(discriminator="step"),
]
