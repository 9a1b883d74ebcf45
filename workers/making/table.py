"""Rows to learn from, in the form in which a model gets them."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import xgboost

from workers.runtimes import Matrix
from workers.template.columns import Column

# XGBoost's names for the types of columns.
FEATURE_TYPES = {"float": "q", "int": "int", "category": "c"}


class DataError(ValueError):
    """Data, or a file, that no version can be made of: says where, and what was expected."""


@dataclass(frozen=True, slots=True)
class Table:
    """`matrix` is rows x columns, NaN for a missing value, a category as its position; `target` has a value a row.

    With `labels` the target is a position among them, without any it is an amount.
    """

    columns: tuple[Column, ...]
    matrix: Matrix
    target: npt.NDArray[np.float32]
    labels: tuple[str, ...] = ()

    def data(self, rows: npt.NDArray[np.intp] | slice = slice(None)) -> xgboost.DMatrix:
        """Return some of the rows as XGBoost trains on them."""
        names = [column.name for column in self.columns]
        # XGBoost takes no name with one of these; without names it has nothing to compare, and the order must do.
        nameless = any(set(name) & set("[]<") for name in names)
        categories = any(column.categories for column in self.columns)
        return xgboost.DMatrix(
            self.matrix[rows],
            label=self.target[rows],
            feature_names=None if nameless else names,
            feature_types=[FEATURE_TYPES[column.type] for column in self.columns] if categories else None,
            enable_categorical=categories,
        )


def number_column(name: str, values: npt.NDArray[Any], *, whole: bool = False) -> Column:
    """Return what the manifest says of a column of numbers like these, NaN among them being missing ones."""
    present = values[~np.isnan(values)]
    kind: Literal["int", "float"] = "int" if whole else "float"
    return known_missing(Column(name=name, type=kind, range=plausible_range(present)), values)


def known_missing(column: Column, values: npt.NDArray[Any]) -> Column:
    """Return the column as one that may be missing, if a value is."""
    return column.model_copy(update={"missing": True}) if np.isnan(values).any() else column


def plausible_range(values: npt.NDArray[Any]) -> tuple[float, float]:
    """Return lowest and highest: a decade or more of room around what was seen; never negative if nothing was."""
    top = max(1000.0, 10.0 ** (math.ceil(math.log10(max(float(np.abs(values).max()), 1e-6))) + 1))
    top = min(top, float(np.finfo(np.float32).max))
    return 0.0 if values.min() >= 0 else -top, top
