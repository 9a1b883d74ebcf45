"""A version from a model file that was trained elsewhere: what it says of itself, and what some rows show."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np

from workers.golden import GoldenError, read_samples
from workers.making import csv_table
from workers.making.csv_table import Raw, Target, Tell
from workers.making.describe import as_listed, head, output
from workers.making.fit import quality
from workers.making.table import DataError, known_missing, number_column
from workers.making.version import answers, check_name, read_release, some_rows, write_version
from workers.model_file import ModelFile
from workers.model_file.parts import ModelFileError
from workers.model_file.reader import read_model
from workers.model_store import ModelStore
from workers.runtimes import Matrix
from workers.template.columns import Column

MADE_UP_ROWS = 8


def from_file(store: Path, given: Namespace, tell: Tell) -> Path:
    """Make a version of `given.from`, with a manifest that says what the file says. Raises DataError.

    `given.data` has some rows, from which come ranges, categories and golden samples. With `given.target` among them
    it tells how good the model is on them, which also shows whether categories and labels are in their right order.
    """
    check_name(given.name)
    path = Path(vars(given)["from"])
    content, model = read(path, tell)
    raw = csv_table.cells(Path(given.data)) if given.data else {}
    target = _target(raw, model, given, tell)
    columns = _columns(model, raw, tell)
    rows = csv_table.matrix(raw, columns) if raw else _made_up(columns, tell)
    manifest = {
        "template": 2,
        "description": f"{given.target or 'A model'}, from {path.name}.",
        "runtime": "xgboost",
        "artifact": {"file": f"model.{model.format}"},
        "columns": as_listed(columns),
        "output": _output(model, target),
        **_tree_range(model),
    }
    files = {f"model.{model.format}": content}
    folder = write_version(store, given.name, manifest, files, some_rows(rows), head(store, given))
    if target is not None:
        _tell_quality(folder, rows, target, tell)
    return folder


def next_version(store: Path, given: Namespace, tell: Tell) -> Path:
    """Make the next version of a model of `given.from`, with the manifest of the one before. Raises DataError."""
    versions = ModelStore(store).snapshot().releases.get(given.name)
    if not versions:
        raise DataError(f"no model '{given.name}' is there yet; make it: manage.py model new {given.name} --from FILE")
    before = versions[max(versions, key=int)]
    content, model = read(Path(vars(given)["from"]), tell)
    # The range of trees is the one thing that belongs to the file and not to the model.
    manifest = before.manifest.model_copy(update={"tree_range": model.tree_range})
    if faults := model.faults(manifest):
        raise DataError(f"it doesn't fit the manifest of {given.name}/{manifest.version}: {'; '.join(faults)}")
    if given.data:
        rows = some_rows(csv_table.matrix(csv_table.cells(Path(given.data)), manifest.columns))
    else:
        try:
            samples = read_samples(before)
        except GoldenError as error:
            raise DataError(f"{before.folder / str(error)}") from error
        rows = samples.decoded.matrix if samples else _made_up(manifest.columns, tell)
    name = f"model.{model.format}"
    kept = before.manifest.model_dump(
        mode="json", exclude_unset=True, exclude={"template", "model", "version", "tree_range", "training", "golden"}
    )
    tell(f"the manifest is that of {given.name}/{manifest.version}")
    kept |= {"template": 2, "artifact": {"file": name}, **_tree_range(model)}
    return write_version(store, given.name, kept, {name: content}, rows, head(store, given))


def read(path: Path, tell: Tell) -> tuple[bytes, ModelFile]:
    """Return a model file and what it says of itself. Raises DataError, with how to convert what can't be read."""
    try:
        content = path.read_bytes()
        model = read_model(content)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from error
    except ModelFileError as error:
        raise DataError(f"{path.name}: {error}") from error
    saved_by = ".".join(map(str, model.version))
    tell(
        f"{path.name}: {model.objective}, {model.features} columns, {model.rounds} rounds, "
        f"saved by XGBoost {saved_by}; that is {model.kind}"
    )
    if model.tree_range:
        tell(f"training went on after its best round: the first {model.tree_range[1]} rounds are used (tree_range)")
    return content, model


def _tree_range(model: ModelFile) -> dict[str, Any]:
    return {"tree_range": list(model.tree_range)} if model.tree_range else {}


def _target(raw: Raw, model: ModelFile, given: Namespace, tell: Tell) -> Target | None:
    """Take the target out of the rows."""
    if not given.target:
        return None
    if given.target not in raw:
        has = ", ".join(map(repr, raw)) or "none"
        raise DataError(f"--target is a column of --data, which has {has}, and not '{given.target}'")
    task = "classes" if model.kind in ("binary", "multiclass") else "amount"
    target = csv_table.target(raw.pop(given.target), given.target, task, tell)
    expected = {"binary": 2, "multiclass": model.width}.get(model.kind, 0)
    if len(target.labels) != expected:
        raise DataError(
            f"'{given.target}' has {len(target.labels)} different values, the model {expected} classes; "
            "give --data that has all of them, or leave --target out and write the labels into the manifest"
        )
    return target


def _columns(model: ModelFile, raw: Raw, tell: Tell) -> tuple[Column, ...]:
    """Return the model's columns: their names and order from the file, the rest from the rows."""
    names = model.feature_names or tuple(raw) or tuple(f"f{i}" for i in range(model.features))
    if len(names) != model.features:
        raise DataError(
            f"the model file names no columns and takes {model.features}; the rows have {len(names)}: "
            f"{', '.join(names)}. Give those that it was trained on, in that order"
        )
    if raw and not model.feature_names:
        tell("the model file names no columns: the rows' columns are taken to be in the order of training")
    return tuple(_column(model, place, name, raw, tell) for place, name in enumerate(names))


def _column(model: ModelFile, place: int, name: str, raw: Raw, tell: Tell) -> Column:
    if raw and name not in raw:
        raise DataError(f"the rows have no column '{name}', which the model takes")
    category = model.feature_types[place : place + 1] == ("c",) or place in model.codes
    if category:
        texts = model.categories.get(place)
        if texts is None and raw:
            texts = tuple(sorted(set(raw[name].to_pylist()) - {""}))
            tell(f"the texts of '{name}' are taken to be in the order of the alphabet, as pandas has them: check that")
        if texts is None:
            raise DataError(f"'{name}' is a category and the model file doesn't have its texts: give rows with --data")
        column = Column(name=name, type="category", categories=texts)
        return known_missing(column, csv_table.positions(raw[name], texts)) if raw else column
    if not raw:
        return Column(name=name)
    found = csv_table.numbers_in(raw[name])
    if found is None:
        raise DataError(f"the column '{name}' has no numbers, which the model takes there")
    csv_table.check_finite(found, name)
    return number_column(name, found, whole=csv_table.written_whole(raw[name], found))


def _output(model: ModelFile, target: Target | None) -> dict[str, Any]:
    if model.kind in ("binary", "multiclass"):
        count = 2 if model.kind == "binary" else model.width
        return output(target.labels if target else [str(i) for i in range(count)])
    if model.width == 1:
        return {"kind": model.kind}
    names = [f"quantile_{each:g}" for each in model.quantiles] or [f"value_{i}" for i in range(model.width)]
    return {"kind": model.kind, "names": names}


def _made_up(columns: tuple[Column, ...], tell: Tell) -> Matrix:
    """Return rows of numbers that mean nothing: a model that answers them in the same way is the same model."""
    tell("the golden samples are made up; with --data they are rows that you know")
    random = np.random.default_rng(0)
    rows = random.normal(size=(MADE_UP_ROWS, len(columns)))
    for place, column in enumerate(columns):
        if column.categories:
            rows[:, place] = random.integers(len(column.categories), size=MADE_UP_ROWS)
        elif column.range is not None:
            rows[:, place] = np.clip(rows[:, place], *column.range)
        if column.type == "int":
            rows[:, place] = np.round(rows[:, place])
    return rows.astype(np.float32)


def _tell_quality(folder: Path, rows: Matrix, target: Target, tell: Tell) -> None:
    """Say how good the version is on rows whose target is known."""
    outputs = answers(read_release(folder), rows[target.kept])
    actual = target.values[target.kept].astype(np.float32)
    if target.labels:
        place = {label: i for i, label in enumerate(target.labels)}
        predicted = np.array([place[label] for label in outputs["label"]])
    else:
        predicted = np.array(next(iter(outputs.values())))
    tell(f"On the {len(actual):,} rows of --data:")
    for line in quality(target.labels, predicted, actual, actual):
        tell(line)
