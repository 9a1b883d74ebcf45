"""Which columns there are before and after each step of the pre-processing, found out without any data."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from workers.template.columns import Column
from workers.template.steps import Codes, Custom, OneHot, Select, Step

# A column of 10,000 categories becomes so many features; a thousand rows of them are 40 MB.
MAX_COLUMNS = 10_000


class Misfit(ValueError):
    """A step, or the base margin, that doesn't go with the columns that there are. `location` is its place."""

    def __init__(self, location: tuple[int | str, ...], reason: str) -> None:
        self.location = location
        super().__init__(".".join(map(str, location)) + f": {reason}")


@dataclass(frozen=True, slots=True)
class Layout:
    """Columns in their order, and the categories of those whose values are still positions in a list of them."""

    names: tuple[str, ...]
    categories: Mapping[str, tuple[str, ...]]

    def without(self, names: Iterable[str]) -> "Layout":
        """Return the layout without some columns."""
        gone = set(names)
        return Layout(tuple(name for name in self.names if name not in gone), self.categories)


def layouts(columns: tuple[Column, ...], steps: tuple[Step, ...]) -> list[Layout]:
    """Return the layout before each step, and the one after the last. Raises Misfit."""
    layout = Layout(tuple(c.name for c in columns), {c.name: c.categories for c in columns if c.categories})
    found = [layout]
    for i, step in enumerate(steps):
        where = ("preprocessing", i)
        _check_columns(where, step, layout)
        layout = _after(step, layout)
        _check_names(where, layout.names)
        found.append(layout)
    return found


def features(columns: tuple[Column, ...], steps: tuple[Step, ...], base_margin: tuple[str, ...], width: int) -> Layout:
    """Return the model's features: what the steps leave, without the base margin. Raises Misfit.

    `width` is how many numbers a row the model gives: each has its own column of the base margin, if there is one.
    """
    last = layouts(columns, steps)[-1]
    for i, name in enumerate(base_margin):
        if name not in last.names:
            raise Misfit(("base_margin", i), _no_column(name, last))
        if name in last.categories:
            raise Misfit(("base_margin", i), f"column '{name}' holds categories, not numbers")
    _check_twice(("base_margin",), base_margin)
    if base_margin and len(base_margin) != width:
        raise Misfit(("base_margin",), f"{len(base_margin)} columns, but the output has {width} numbers a row")
    layout = last.without(base_margin)
    if not layout.names:
        raise Misfit(("base_margin",), "no column is left for the model")
    return layout


def _check_columns(where: tuple[int | str, ...], step: Step, layout: Layout) -> None:
    """Raise Misfit unless the step's columns are there, and of the kind that it takes."""
    of_one = isinstance(step, OneHot | Codes)
    names = (step.column,) if isinstance(step, OneHot | Codes) else step.columns
    known = set(layout.names)
    for i, name in enumerate(names):
        place = (*where, "column") if of_one else (*where, "columns", i)
        if name not in known:
            raise Misfit(place, _no_column(name, layout))
        if of_one and name not in layout.categories:
            raise Misfit(place, f"{step.step} takes a column of categories, and '{name}' holds numbers")
        if name in layout.categories and not isinstance(step, OneHot | Codes | Select | Custom):
            reason = f"{step.step} takes numbers, and '{name}' holds categories: one_hot and codes make numbers of them"
            raise Misfit(place, reason)
    _check_twice((*where, "columns"), names)
    if isinstance(step, Custom):
        _check_twice((*where, "returns"), step.returns)
    if isinstance(step, Codes):
        texts = layout.categories[step.column]
        for text in texts:
            if text not in step.codes:
                raise Misfit((*where, "codes"), f"there is no code for the category '{text}'")
        for text in step.codes:
            if text not in texts:
                raise Misfit((*where, "codes", text), f"'{text}' is no category of the column '{step.column}'")


def _after(step: Step, layout: Layout) -> Layout:
    names, categories = layout.names, layout.categories
    if isinstance(step, Select):
        return Layout(step.columns, {name: texts for name, texts in categories.items() if name in step.columns})
    if isinstance(step, OneHot):
        at = names.index(step.column)
        names = names[:at] + one_hot_names(step.column, categories[step.column]) + names[at + 1 :]
        return Layout(names, _less(categories, (step.column,)))
    if isinstance(step, Codes):
        return Layout(names, _less(categories, (step.column,)))
    if isinstance(step, Custom):
        known = set(names)
        names += tuple(name for name in step.returns if name not in known)
        return Layout(names, _less(categories, step.returns))
    return layout


def one_hot_names(column: str, categories: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the columns that stand for a column of categories."""
    return tuple(f"{column}={text}" for text in categories)


def _less(categories: Mapping[str, tuple[str, ...]], names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    return {name: texts for name, texts in categories.items() if name not in names}


def _check_names(where: tuple[int | str, ...], names: tuple[str, ...]) -> None:
    _check_twice(where, names)
    if len(names) > MAX_COLUMNS:
        raise Misfit(where, f"{len(names):,} columns after this step; there may be {MAX_COLUMNS:,}")


def _check_twice(where: tuple[int | str, ...], names: tuple[str, ...]) -> None:
    if len(set(names)) != len(names):
        (name, _), *_ = Counter(names).most_common(1)
        raise Misfit(where, f"two columns of the name '{name}'")


def _no_column(name: str, layout: Layout) -> str:
    some = ", ".join(layout.names[:5]) + (" …" if len(layout.names) > 5 else "")
    return f"there is no column '{name}' here, but {some}"
