"""A version's folder: everything that belongs to it, written whole or not at all."""

import errno
import hashlib
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import TypeAdapter, ValidationError

from workers.making.table import DataError
from workers.manifest import Manifest, read_manifest
from workers.model_store import Release
from workers.runtimes import Matrix
from workers.schema import Schema
from workers.served import Served
from workers.template.parts import Name
from workers.template.yaml_file import ManifestError

ARTIFACT = "model.ubj"
GOLDEN_ROWS = 8
# Other hardware adds floats in another order; a wrong model is off by far more.
GOLDEN_FILE = "golden.json"
GOLDEN = {"file": GOLDEN_FILE, "absolute": 1e-5, "relative": 1e-5}


def write_version(
    store: Path, model: str, manifest: dict[str, Any], files: dict[str, bytes], rows: Matrix, head: str
) -> Path:
    """Write the model's next version and return its folder; what is there already stays as it is.

    `manifest` is all but model and version; `rows` are the inputs of the golden samples, `files` what lies beside the
    manifest. Raises DataError, and leaves nothing then.
    """
    check_name(model)
    try:
        numbers = [int(path.name) for path in (store / model).glob("*") if path.name.isdecimal()]
        folder = store / model / str(max(numbers, default=0) + 1)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=store) as place:
            # Nobody looks for a manifest that deep; by its rename the version is there with all of its files.
            made = Path(place) / model / folder.name
            made.mkdir(parents=True)
            for name, content in files.items():
                (made / name).write_bytes(content)
            complete(made, {"model": model, "version": folder.name} | manifest, rows, head)
            folder.parent.mkdir(exist_ok=True)
            made.rename(folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise DataError(f"{folder} was made by another process meanwhile; try again") from error
        raise DataError(f"{error.filename or store}: {error.strerror}") from error
    return folder


def check_name(model: str) -> None:
    """Raise DataError for what can't be the name of a model."""
    try:
        TypeAdapter(Name).validate_python(model)
    except ValidationError as error:
        raise DataError(f"'{model}' is no name for a model: a-z, 0-9, _ and -, 64 at the most") from error


def complete(folder: Path, manifest: dict[str, Any], rows: Matrix, head: str) -> None:
    """Write the manifest and what its model answers to `rows` into a folder that has the artifact. Raises DataError."""
    file = folder / manifest["artifact"]["file"]
    digest = {"file": file.name, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    write_manifest(folder, manifest | {"artifact": digest, "golden": GOLDEN}, head)
    try:
        release = read_release(folder)
        golden = {"inputs": [_as_sent(release.schema, row) for row in rows], "outputs": answers(release, rows)}
    except (ManifestError, ValueError) as error:
        raise DataError(str(error)) from error
    (folder / GOLDEN_FILE).write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_release(folder: Path) -> Release:
    """Return the version in a folder. Raises ManifestError."""
    manifest = read_manifest(folder / "manifest.yaml")
    return Release(manifest, folder, Schema(manifest.columns))


def answers(release: Release, rows: Matrix) -> dict[str, list[Any]]:
    """Return what a client gets for the rows: each output by name, a value a row. Raises ValueError."""
    outputs = Served(release, release.artifact()).outputs(rows)
    return {name: np.asarray(values).tolist() for name, values in outputs.items()}


def some_rows(matrix: Matrix) -> Matrix:
    """Return a few rows from all over the matrix, for golden samples, and the one with the most missing values."""
    picks = np.linspace(0, len(matrix) - 1, min(GOLDEN_ROWS, len(matrix))).astype(int).tolist()
    missing = np.isnan(matrix).sum(axis=1)
    return matrix[[*picks, int(missing.argmax())] if missing.any() else picks]


def write_manifest(folder: Path, manifest: dict[str, Any], head: str) -> None:
    """Write the manifest, keys in the form's order, below the lines of comment in `head`."""
    ordered = {key: manifest[key] for key in Manifest.model_fields if key in manifest}
    text = yaml.safe_dump(ordered, sort_keys=False, width=118, default_flow_style=None, allow_unicode=True)
    (folder / "manifest.yaml").write_text(head + text, encoding="utf-8")


def _as_sent(schema: Schema, row: Matrix) -> list[Any]:
    """Return a row as a client sends it in JSON."""
    return [_number(cell) if isinstance(cell, np.float32) else cell for cell in schema.cells(row)]


def _number(value: np.float32) -> float | None:
    # By its text, which has the few digits that tell a float32 from any other: 25.85, not 25.850000381469727.
    return None if np.isnan(value) else float(str(value))
