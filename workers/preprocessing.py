"""Pre-processing: from a matrix in the signature's columns to the model's features, by the manifest's steps."""

import os
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from workers.manifest import Manifest
from workers.template.layout import Layout, features, layouts, one_hot_names
from workers.template.steps import Cast, Clip, Codes, Custom, Fill, Log, OneHot, Scale, Select, Step

Matrix = npt.NDArray[np.float32]
# One value a row, by the column's name.
Columns = dict[str, npt.NDArray[np.float32]]


class BadRow(NamedTuple):
    """A row (from 0) with which a step can do nothing, such as the logarithm of a negative number."""

    row: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"row {self.row}, column '{self.column}': {self.reason}"


class BadData(ValueError):
    """Rows with which a step can do nothing. The text is about the first one; `rows` are all that fail for its reason.

    A row is among them for the first thing that is wrong with it; there may be others, for which a later step fails.
    """

    def __init__(self, message: str, rows: Iterable[BadRow] = ()) -> None:
        super().__init__(message)
        self.rows = tuple(rows)


class StepError(RuntimeError):
    """A custom step that may not be called, isn't there, raises, or returns something else than was agreed."""


class Prepared(NamedTuple):
    """What the model gets: C-contiguous float32, rows x features; and rows x numbers of the base margin, if any."""

    features: Matrix
    margin: Matrix | None


class Pipeline:
    """The steps of one manifest. Made once a release, in a worker: it imports the custom steps' packages.

    `features` are the names of the model's columns in their order; `categories` has the texts of those that hold
    positions in a list of them.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Raise StepError for a custom step that can't be called, Misfit for steps that don't go with the columns."""
        before = layouts(manifest.columns, manifest.preprocessing)
        layout = features(manifest.columns, manifest.preprocessing, manifest.base_margin, manifest.output.width)
        self.features = layout.names
        self.categories = {name: layout.categories[name] for name in layout.names if name in layout.categories}
        self._names = before[0].names
        self._margin = manifest.base_margin
        self._steps = [
            _Call(f"step {i} ({step.step})", step.columns if isinstance(step, Custom) else (), _callable(step, columns))
            for i, (step, columns) in enumerate(zip(manifest.preprocessing, before, strict=False))
        ]

    def apply(self, matrix: Matrix) -> Prepared:
        """Return features and base margin of a matrix in the signature's columns, row by row; NaN is missing.

        Raises BadData with the rows from 0, StepError.
        """
        if not self._steps and not self._margin:
            return Prepared(np.ascontiguousarray(matrix, dtype=np.float32), None)
        columns: Columns = dict(zip(self._names, matrix.T, strict=True))
        for call in self._steps:
            columns = call.on(columns)
        margin = None
        if self._margin:
            margin = _stacked(columns, self._margin)
            _refuse(
                BadRow(int(row), self._margin[np.isnan(margin[row]).argmax()], "the base margin is missing")
                for row in np.flatnonzero(np.isnan(margin).any(axis=1))
            )
        return Prepared(_stacked(columns, self.features), margin)


class _Call(NamedTuple):
    """A step ready to be called. `function` gets all columns and returns all that there are afterwards.

    `given` are those that each result is made of; without them it is made of the column of its own name.
    """

    name: str
    given: tuple[str, ...]
    function: Callable[[Columns], Columns]

    def on(self, before: Columns) -> Columns:
        """Return the columns after the step. Raises BadData for a result that is no number though its values were."""
        try:
            # What comes of it is looked at below.
            with np.errstate(all="ignore"):
                after = self.function(before)
        except StepError as error:
            raise StepError(f"{self.name}: {error}") from error
        for name, values in after.items():
            if before.get(name) is values or np.isfinite(values).all():
                continue
            given = self.given or (name,)
            present = ~np.any([np.isnan(before[source]) for source in given], axis=0)
            _refuse(
                BadRow(int(row), name, f"{self.name} makes no finite number of {_shown(before, given, row)}")
                for row in np.flatnonzero(np.isinf(values) | (np.isnan(values) & present))
            )
        return after


def _shown(columns: Columns, names: tuple[str, ...], row: np.intp) -> str:
    return ", ".join(f"{columns[name][row]:g}" for name in names[:5])


def _refuse(found: Iterable[BadRow]) -> None:
    """Raise BadData if there are bad rows."""
    if rows := tuple(found):
        raise BadData(str(rows[0]), rows)


def _stacked(columns: Columns, names: tuple[str, ...]) -> Matrix:
    """Return some columns as one C-contiguous matrix."""
    rows = len(columns[names[0]])
    matrix = np.empty((rows, len(names)), dtype=np.float32)
    for i, name in enumerate(names):
        matrix[:, i] = columns[name]
    return matrix


def _callable(step: Step, layout: Layout) -> Callable[[Columns], Columns]:
    if isinstance(step, Select):
        return lambda columns: {name: columns[name] for name in step.columns}
    if isinstance(step, OneHot):
        return _one_hot(step, layout)
    if isinstance(step, Codes):
        codes = np.array([step.codes[text] for text in layout.categories[step.column]], dtype=np.float32)
        return lambda columns: columns | {step.column: _coded(columns[step.column], codes)}
    if isinstance(step, Custom):
        return _custom(step)
    function = _elementwise(step)

    def changed(columns: Columns) -> Columns:
        # In float64, rounded once: as training in pandas or scikit-learn has it.
        return columns | {name: function(columns[name].astype(np.float64)).astype(np.float32) for name in step.columns}

    return changed


def _elementwise(step: Cast | Fill | Clip | Log | Scale) -> Callable[[npt.NDArray[np.float64]], npt.NDArray[Any]]:
    """Return what the step makes of the values of a column, NaN of NaN but for `fill`."""
    if isinstance(step, Cast):
        return np.trunc if step.to == "int" else lambda values: np.where(np.isnan(values), np.nan, values != 0)
    if isinstance(step, Fill):
        return lambda values: np.where(np.isnan(values), step.value, values)
    if isinstance(step, Clip):
        return lambda values: np.clip(values, step.low, step.high)
    if isinstance(step, Log):
        return lambda values: np.log(values + step.plus)
    return lambda values: (values - step.center) / step.scale


def _one_hot(step: OneHot, layout: Layout) -> Callable[[Columns], Columns]:
    texts = layout.categories[step.column]
    names = one_hot_names(step.column, texts)

    def replaced(columns: Columns) -> Columns:
        after: Columns = {}
        for name, values in columns.items():
            if name == step.column:
                after |= {new: (values == code).astype(np.float32) for code, new in enumerate(names)}
            else:
                after[name] = values
        return after

    return replaced


def _coded(positions: npt.NDArray[np.float32], codes: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    missing = np.isnan(positions)
    coded: npt.NDArray[np.float32] = codes[np.where(missing, 0, positions).astype(np.intp)]
    coded[missing] = np.nan
    return coded


def step_packages() -> tuple[str, ...]:
    """Return the packages, or modules, whose functions manifests may call."""
    names = os.environ.get("MODEL_STEP_PACKAGES", "").split(",")
    return tuple(name.strip() for name in names if name.strip())


def _custom(step: Custom) -> Callable[[Columns], Columns]:
    module, _, name = step.call.partition(":")
    # Before the import, which runs what is in the module.
    if not any(module == allowed or module.startswith(f"{allowed}.") for allowed in step_packages()):
        raise StepError(f"custom step {step.call}: MODEL_STEP_PACKAGES doesn't name its package")
    try:
        function = getattr(import_module(module), name)
    except Exception as error:
        raise StepError(f"custom step {step.call}: it can't be imported: {error!r}") from error
    if not callable(function):
        raise StepError(f"custom step {step.call}: this is nothing that can be called")

    def called(columns: Columns) -> Columns:
        # Copies: the step may write into them, and what it got is needed again if a bundle fails.
        given = {column: columns[column].copy() for column in step.columns}
        rows = len(next(iter(given.values())))
        try:
            returned = function(given)
        except MemoryError:
            raise
        except Exception as error:
            raise StepError(f"{step.call} raised {error!r}") from error
        if not isinstance(returned, dict) or set(returned) != set(step.returns):
            got = list(returned) if isinstance(returned, dict) else type(returned).__name__
            raise StepError(f"{step.call}: expected a dict with the columns {list(step.returns)}, got {got}")
        for column, values in returned.items():
            kind = getattr(values, "dtype", type(values).__name__), getattr(values, "shape", ())
            if not isinstance(values, np.ndarray) or kind != (np.dtype(np.float32), (rows,)):
                raise StepError(f"{step.call}, column '{column}': expected {rows} values of float32, got {kind}")
        return columns | {column: returned[column] for column in step.returns}

    return called
