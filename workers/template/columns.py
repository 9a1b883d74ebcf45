"""The signature's columns: what a client sends."""

from typing import Literal, Self

from pydantic import model_validator

from workers.template.parts import FLOAT32_MAX, Number, Part, Text

# float32 holds every whole number up to here; beyond, two different ids could become one.
EXACT_INTEGERS = 2**24
# What V2 calls a type, for each type of a column.
DATATYPES = {"float": "FP32", "int": "INT64", "category": "BYTES"}


class Column(Part):
    """One input column. Refused at the door: a value outside `range` (inclusive), a missing one unless declared.

    A `category` takes one of the texts in `categories`; the model gets the text's position there, from 0.
    `default` stands for a value, or a whole column, that a client leaves out; the job then holds the default.
    """

    name: Text
    """The column's name."""
    type: Literal["float", "int", "category"] = "float"
    """int refuses fractions and what float32 can't hold exactly; category takes texts."""
    range: tuple[float, float] | None = None
    """[lowest, highest], inclusive; a value outside is refused."""
    categories: tuple[Text, ...] = ()
    """The texts that a category takes; the model gets a text's position in this list, from 0."""
    missing: bool = False
    """Whether a value, or the whole column, may be missing."""
    default: Number | Text | None = None
    """What stands for a value, or the whole column, that a client leaves out."""

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

    @model_validator(mode="after")
    def _default_is_a_value_of_the_column(self) -> Self:
        if self.default is None:
            return self
        if self.type == "category":
            if self.default not in self.categories:
                raise ValueError("default is none of the categories")
        elif not isinstance(self.default, float):
            raise ValueError("default is a number for a column of numbers")
        elif self.type == "int" and (self.default != int(self.default) or abs(self.default) > EXACT_INTEGERS):
            raise ValueError(f"default is a whole number of at most {EXACT_INTEGERS:,} in size for a column of them")
        elif self.range is not None and not self.range[0] <= self.default <= self.range[1]:
            raise ValueError("default is outside the range")
        return self
