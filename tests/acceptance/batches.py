"""Batches on a running system: data sets, a model that can be made to fail, and short ways to the API."""

import contextlib
import hashlib
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import xgboost

from tests.acceptance import fragile_step
from tests.stack import ROOT, Stack, wait_for
from tests.unit.builders import OUTPUTS, train_tiny

PATH = "/api/batches/"
FINAL = ("succeeded", "partial", "failed", "cancelled")
STEP = {
    "step": "custom",
    "call": f"{fragile_step.__name__}:{fragile_step.handled.__name__}",
    "columns": ["a", "b"],
    "returns": ["b"],
}
# Few attempts that follow one another at once, so that a chunk that kills its workers is given up within seconds.
POLICY = {"attempts": 2, "backoff_seconds": 0.1, "timeout_seconds": 30.0}
Rows = npt.NDArray[np.float32]


def variables(folder: Path, **more: str) -> dict[str, str]:
    """Make the model `m` in the folder; returns what a stack needs to serve it, and to read files of the folder."""
    train_tiny(folder / "store", "m", OUTPUTS["two"], preprocessing=[STEP], policy=POLICY)
    (folder / "shared").mkdir()
    return {
        "MODEL_STORE": str(folder / "store"),
        "MODEL_STEP_PACKAGES": fragile_step.__name__,
        "PYTHONPATH": str(ROOT),
        "DATA_FOLDERS": str(folder / "shared"),
        "LEASE_SECONDS": "2",
        **more,
    }


def rows(count: int, seed: int = 1) -> Rows:
    """Return rows of the model's columns a, b, c; some of b are missing."""
    random = np.random.default_rng(seed)
    values = random.normal(size=(count, 3)).astype(np.float32)
    values[random.random(count) < 0.1, 1] = np.nan
    return values


def table(values: Rows) -> pa.Table:
    """Return the rows, each with its number as `id`, in columns of another order than the model's."""
    missing = pa.array(values[:, 1], mask=np.isnan(values[:, 1]))
    columns = {"id": pa.array(np.arange(len(values))), "c": values[:, 2], "a": values[:, 0], "b": missing}
    return pa.table(columns)


def parquet(values: Rows, group: int = 1_000) -> bytes:
    """Return the rows as a Parquet file."""
    file = io.BytesIO()
    pq.write_table(table(values), file, row_group_size=group)
    return file.getvalue()


def direct(stack: Stack, values: Rows) -> Rows:
    """Return what the model file itself says, without any of our code."""
    booster = xgboost.Booster(model_file=Path(stack.environment["MODEL_STORE"]) / "m" / "1" / "model.ubj")
    return np.asarray(booster.inplace_predict(values), np.float32)


def upload(stack: Stack, name: str, data: bytes) -> str:
    """Send a file; returns where it lies."""
    answer = stack.client.post("/api/uploads/", files={"file": (name, data)})
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["bytes"], told["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    return str(told["uri"])


def begin(stack: Stack, uri: str, **fields: Any) -> str:
    """Ask for a batch; returns its id."""
    answer = stack.client.post(PATH, json={"model": "m", "input": {"uri": uri}, **fields})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def look(stack: Stack, batch: str) -> dict[str, Any]:
    """Return the batch as it is now."""
    found: dict[str, Any] = stack.client.get(f"{PATH}{batch}/").json()
    return found


def ended(stack: Stack, batch: str, seconds: float = 120) -> dict[str, Any]:
    """Return the batch once it has ended."""
    end = time.monotonic() + seconds
    while (found := look(stack, batch))["state"] not in FINAL:
        if time.monotonic() > end:
            raise AssertionError(f"{found} after {seconds} s; {chunks(stack, batch)}\n{stack.logs()}")
        time.sleep(0.1)
    return found


def at_work(stack: Stack, batch: str, done: int = 1) -> None:
    """Wait until so many chunks are done, and fail if that are all."""
    wait_for(lambda: look(stack, batch)["chunks"]["done"] >= done, 60, lambda: f"{look(stack, batch)}\n{stack.logs()}")
    assert look(stack, batch)["state"] == "running"


def chunks(stack: Stack, batch: str) -> list[dict[str, Any]]:
    """Return the batch's chunks in order."""
    answer = stack.client.get(f"{PATH}{batch}/chunks/", params={"page_size": 500})
    return list(answer.json()["results"])


def told(stack: Stack, batch: str) -> str:
    """Return what people were told of the batch, as the command line shows it."""
    return stack.manage("batch", "status", batch)


def output(stack: Stack, batch: str) -> bytes:
    """Download the output, which must be what the receipt says."""
    answer = stack.client.get(f"{PATH}{batch}/output/")
    assert answer.status_code == 200, answer.text
    receipt = look(stack, batch)["receipt"]["output"]
    assert hashlib.sha256(answer.content).hexdigest() == receipt["sha256"]
    assert len(answer.content) == receipt["bytes"]
    return answer.content


def as_table(data: bytes) -> pa.Table:
    """Read a Parquet file."""
    return pq.read_table(io.BytesIO(data))


def probabilities(found: pa.Table) -> Rows:
    """Return the predictions, NaN for null."""
    return np.asarray(found["probability"].to_numpy(zero_copy_only=False), np.float32)


def no_output(stack: Stack, batch: str) -> None:
    """Check that there is nothing to download, and nothing half-written, either."""
    assert stack.client.get(f"{PATH}{batch}/output/").status_code == 409
    assert not left(stack, batch, "output*")


def left(stack: Stack, batch: str, pattern: str) -> list[Path]:
    """Return which files of such names, temporary ones too, lie in the batch's folder."""
    folder = stack.folder / "data" / "batches" / batch
    return [path for path in folder.rglob("*") if path.is_file() and path.match(f"*{pattern}")]


def tidy(stack: Stack, batch: str) -> None:
    """Wait until nothing of a batch is left but what one can download, and the note about it."""
    allowed = {"output.parquet", "output.csv", "errors.csv", "merged.json"}
    wait_for(
        lambda: {path.name for path in left(stack, batch, "*")} <= allowed,
        30,
        lambda: f"{left(stack, batch, '*')}\n{stack.logs()}",
    )


def fails(stack: Stack, times: int) -> None:
    """Have the model's step fail so many times more."""
    for number in range(times):
        (stack.folder / fragile_step.FAILS.format(number)).touch()


@contextlib.contextmanager
def dawdling(stack: Stack) -> Iterator[None]:
    """Let each chunk take its time."""
    mark = stack.folder / fragile_step.DAWDLES
    mark.touch()
    try:
        yield
    finally:
        mark.unlink()


def poisoned(values: Rows, row: int) -> Rows:
    """Return the rows with one for which the step can fail."""
    changed = values.copy()
    changed[row, 0] = fragile_step.POISON
    return changed


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return status and kind of a refusal."""
    return answer.status_code, answer.json()["type"].removeprefix("/problems/")
