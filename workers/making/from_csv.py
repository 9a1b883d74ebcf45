"""A version from a CSV of one's own: the model is trained here."""

from argparse import Namespace
from pathlib import Path

from workers.making import csv_table, fit
from workers.making.csv_table import Tell
from workers.making.describe import as_listed, head, output
from workers.making.table import DataError
from workers.making.version import ARTIFACT, check_name, some_rows, write_version


def from_csv(store: Path, given: Namespace, tell: Tell) -> Path:
    """Train a model of `given.csv` and make a version of it. Returns its folder. Raises DataError."""
    check_name(given.name)
    if not given.target:
        raise DataError("say with --target which column is to be predicted")
    if given.data:
        raise DataError("--data goes with --from; the golden samples are rows of the CSV")
    path = Path(given.csv)
    table = csv_table.read(path, given.target, tell, task=given.task, without=given.without)
    booster = fit.fit_and_try(table, {}, tell)
    manifest = {
        "template": 2,
        "description": f"{given.target}, learned from {path.name}.",
        "runtime": "xgboost",
        "artifact": {"file": ARTIFACT},
        "columns": as_listed(table.columns),
        "output": output(table.labels),
    }
    files = {ARTIFACT: bytes(booster.save_raw("ubj"))}
    return write_version(store, given.name, manifest, files, some_rows(table.matrix), head(store, given))
