"""`diff`: what a release of one version in the place of another changes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from workers.formats import Limits, json_instances
from workers.golden import GoldenError, Samples, read_samples
from workers.making.table import DataError
from workers.making.version import answers
from workers.model_store import ModelStore, Release, UnknownModel

# In every pair of versions.
ALWAYS = {"version", "artifact", "golden", "columns", "training"}
MOST_COLUMNS = 50
SHOWN_ROWS = 5


def compare(store: Path, model: str, old: str, new: str) -> Iterator[str]:
    """Yield lines: how manifests, columns and sizes differ, and what `new` answers to the golden samples of `old`.

    Raises DataError for a version that isn't served.
    """
    models = ModelStore(store)
    before, after = _release(models, model, old), _release(models, model, new)
    yield f"{model} {old} → {new}"
    yield from _manifests(before, after)
    yield from _columns(before, after)
    yield f"size: {len(before.artifact()):,} → {len(after.artifact()):,} bytes"
    yield from _answers(before, after)


def _release(models: ModelStore, model: str, version: str) -> Release:
    for problem in models.snapshot().problems:
        if problem.path.parts[-3:-1] == (model, version):
            raise DataError(str(problem))
    try:
        return models.get(model, version)
    except UnknownModel as error:
        raise DataError(str(error)) from error


def _manifests(before: Release, after: Release) -> Iterator[str]:
    left, right = (_flat(each.manifest.model_dump(mode="json", exclude=ALWAYS)) for each in (before, after))
    for key in [*left, *(key for key in right if key not in left)]:
        if left.get(key) != right.get(key):
            yield f"{key}: {left.get(key)} → {right.get(key)}"


def _flat(value: Any, path: str = "") -> dict[str, Any]:
    """Return the values of nested mappings by their dotted path."""
    if not isinstance(value, dict):
        return {path: value}
    return {k: v for key, part in value.items() for k, v in _flat(part, f"{path}.{key}".lstrip(".")).items()}


def _columns(before: Release, after: Release) -> Iterator[str]:
    left = {column.name: column for column in before.manifest.columns}
    right = {column.name: column for column in after.manifest.columns}
    lines = [f"column '{name}': removed" for name in left if name not in right]
    lines += [f"column '{name}': new" for name in right if name not in left]
    for name in left.keys() & right.keys():
        old, new = left[name].model_dump(mode="json"), right[name].model_dump(mode="json")
        lines += [f"column '{name}': {key}: {old[key]} → {new[key]}" for key in old if old[key] != new[key]]
    if left.keys() == right.keys() and list(left) != list(right):
        lines.append("columns: in another order, which matters to clients that send rows without names")
    yield from lines[:MOST_COLUMNS]
    if len(lines) > MOST_COLUMNS:
        yield f"… and {len(lines) - MOST_COLUMNS} more about columns"


def _answers(before: Release, after: Release) -> Iterator[str]:
    """Say how the answers to the older version's golden samples differ."""
    try:
        samples = read_samples(before)
        if samples is None:
            yield f"golden samples: {before.manifest.version} has none to compare with"
            return
        rows = _rows_of(before, samples)
        decoded = json_instances.decode(after, rows, Limits(len(rows), 10_000), key="inputs")
        got = answers(after, decoded.matrix)
    except (GoldenError, ValueError) as error:
        reason = str(error)[:200]
        yield f"golden samples: {after.manifest.version} doesn't answer those of {before.manifest.version}: {reason}"
        return
    for name, expected in samples.outputs.items():
        if name not in got:
            yield f"{name}: not among the outputs of {after.manifest.version}"
        else:
            yield from _output(name, expected, got[name], rows)


def _rows_of(release: Release, samples: Samples) -> list[Any]:
    """Return the golden inputs as records: the other version may have its columns in another order."""
    names = release.schema.names
    return [row if isinstance(row, dict) else dict(zip(names, row, strict=True)) for row in samples.rows]


def _output(name: str, expected: list[Any], got: list[Any], rows: list[Any]) -> Iterator[str]:
    old, new = np.asarray(expected), np.asarray(got)
    if old.shape != new.shape:
        yield f"{name}: {old.shape[1:] or 'one'} values a row → {new.shape[1:] or 'one'}"
        return
    if old.dtype.kind not in "fiu":
        changed = np.flatnonzero((old != new).reshape(len(old), -1).any(axis=1))
        yield f"{name}: another one in {len(changed)} of {len(old)} golden rows"
        order = changed
    else:
        distance = np.abs(old - new).reshape(len(old), -1).max(axis=1)
        yield f"{name}: differs by {distance.max():.4g} at the most, by {distance.mean():.4g} on average"
        order = np.argsort(-distance)[: np.count_nonzero(distance)]
    for row in order[:SHOWN_ROWS]:
        yield f"  row {row}: {_short(expected[row])} → {_short(got[row])}"


def _short(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_short, value)) + "]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
