"""A batch whose steps are done here, one after the other, as a worker does them."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import xgboost

from workers import steps
from workers.model_store import ModelStore, Release
from workers.served import Served

ROWS = 5_000


def table(rows: int = ROWS) -> pa.Table:
    """The columns of the tiny models, in another order, among others."""
    random = np.random.default_rng(3)
    a, b, c = random.normal(size=(3, rows)).astype(np.float32)
    b[::7] = np.nan
    return pa.table(
        {
            "id": np.arange(rows),
            "c": c,
            "a": a,
            "note": pa.array([f"text {i}" for i in range(rows)]),
            "b": b,
        }
    )


def matrix(data: pa.Table) -> npt.NDArray[np.float32]:
    """What a model gets of the table."""
    return np.column_stack([data[name].to_numpy() for name in ("a", "b", "c")]).astype(np.float32)


def changed(data: pa.Table, name: str, values: dict[int, Any]) -> pa.Table:
    """Return the table with some cells of a column changed."""
    cells = data[name].to_pylist()
    for row, value in values.items():
        cells[row] = value
    return data.set_column(data.column_names.index(name), name, pa.array(cells, data[name].type))


class Batch:
    """A batch of one of the tiny models over a file, whose name says its format."""

    def __init__(self, store: Path, path: Path, data: pa.Table, *, model: str = "two", name: str = "1", **work: Any):
        self.release = self.release_of(store, model)
        self.booster = xgboost.Booster(model_file=str(self.release.folder / "model.ubj"))
        self.data = data
        if path.suffix == ".csv":
            pyarrow.csv.write_csv(data, path)
        else:
            pq.write_table(data, path, row_group_size=900)
        self.path = path
        self.folder = f"store://batches/{name}"
        self.work: dict[str, Any] = {
            "batch": name,
            "input": {"uri": f"file://{path}"},
            "output": {"uri": None, "format": "parquet"},
            "keep": ["id"],
            "chunk_rows": 700,
            "folder": self.folder,
        } | work
        self.format = self.work["output"]["format"]
        self.run = 1
        self.planned: dict[str, Any] = {}

    @staticmethod
    def release_of(store: Path, model: str) -> Release:
        """Return a release."""
        return ModelStore(store).get(model)

    @property
    def raw(self) -> npt.NDArray[np.float32]:
        """What the model says of all rows in one call."""
        found: npt.NDArray[np.float32] = self.booster.inplace_predict(matrix(self.data), strict_shape=True)
        return found

    def step(self, kind: str, work: dict[str, Any]) -> dict[str, Any]:
        """Do a step."""
        served = Served(self.release, self.release.artifact()) if kind == "chunk" else None
        result: dict[str, Any] = orjson.loads(steps.run(kind, orjson.dumps(work), self.release, served))
        return result

    def plan(self) -> dict[str, Any]:
        """Plan it."""
        self.planned = self.step("plan", self.work)
        return self.planned

    def chunk_work(self, number: int) -> dict[str, Any]:
        """What a chunk is asked to do."""
        common = {key: self.work[key] for key in ("batch", "input", "keep", "folder")}
        return (
            common
            | {"files": self.planned["files"], "format": self.format, "run": self.run}
            | self.planned["ranges"][number]
        )

    def chunk(self, number: int) -> dict[str, Any]:
        """Do a chunk."""
        return self.step("chunk", self.chunk_work(number))

    def merge_work(self, failed: dict[int, str]) -> dict[str, Any]:
        """What the merge is asked to do, some chunks having failed for a reason."""
        common = {key: self.work[key] for key in ("batch", "input", "keep", "folder")}
        parts = [
            each | {"state": "failed" if n in failed else "done", "reason": failed.get(n, "")}
            for n, each in enumerate(self.planned["ranges"])
        ]
        return common | {
            "files": self.planned["files"],
            "format": self.format,
            "output": self.planned["output"],
            "run": self.run,
            "parts": parts,
            "errors": f"{self.folder}/errors.csv",
        }

    def merge(self, failed: dict[int, str] | None = None) -> dict[str, Any]:
        """Merge."""
        return self.step("merge", self.merge_work(failed or {}))

    def all(self, failed: dict[int, str] | None = None) -> dict[str, Any]:
        """Do every step but the last; of the failed chunks none is done. Returns the receipt."""
        self.plan()
        for number in range(len(self.planned["ranges"])):
            if number not in (failed or {}):
                self.chunk(number)
        return self.merge(failed)


def stored(uri: str) -> Path:
    """Where a place of the system's own storage is, in these tests."""
    return Path(os.environ["DATA_DIR"]) / uri.removeprefix("store://")


def left(folder: Path) -> list[str]:
    """Every file below a folder, also hidden ones."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
