"""A worker that dies in the middle of a step, at the places where it hurts most: the next one makes it good."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.stack import ROOT
from tests.unit.steps.batch import Batch, changed, stored, table
from workers.steps.work import Format
from workers.steps.writers import PART_KINDS

STEP = """
import sys, orjson
from pathlib import Path
from workers import steps
from workers.model_store import ModelStore
from workers.served import Served
step, store, work = sys.argv[1:]
release = ModelStore(Path(store)).get("two")
served = Served(release, release.artifact()) if step == "chunk" else None
print(steps.run(step, work.encode(), release, served))
"""


def dies(step: str, store: Path, work: object, failpoint: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STEP, step, str(store), orjson.dumps(work).decode()],
        cwd=ROOT,
        env=os.environ | {"RUN_DIR": str(folder), "FAILPOINTS": f"{failpoint}=kill"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
@pytest.mark.parametrize("failpoint", ["worker.before_part", "worker.after_part"])
def test_a_chunk_whose_worker_died_is_done_again(
    trained_store: Path, theirs: Path, tmp_path: Path, failpoint: str, kind: Format
) -> None:
    data = changed(table(1000), "a", {3: float("nan")})
    batch = Batch(trained_store, theirs / "rows.parquet", data, output={"format": kind})
    batch.plan()
    place = stored(f"{batch.folder}/work/1/part-000000.{PART_KINDS[kind]}")
    dies("chunk", trained_store, batch.chunk_work(0), failpoint, tmp_path)
    assert place.exists() is (failpoint == "worker.after_part")
    result, content = batch.chunk(0), place.read_bytes()
    assert (result["rows"], result["failed"]) == (700, 1)
    batch.run = 2
    assert batch.chunk(0) == result
    assert stored(f"{batch.folder}/work/2/part-000000.{PART_KINDS[kind]}").read_bytes() == content


@pytest.mark.parametrize("inside", [True, False], ids=["in its folder", "elsewhere"])
@pytest.mark.parametrize("failpoint", ["worker.before_merged", "worker.after_merged"])
def test_a_merge_whose_worker_died_is_done_again(
    trained_store: Path, theirs: Path, tmp_path: Path, failpoint: str, inside: bool
) -> None:
    data = changed(table(1000), "a", {3: float("nan")})
    output = {"uri": None if inside else f"file://{theirs}/output.parquet", "format": "parquet"}
    undisturbed = Batch(trained_store, theirs / "rows.parquet", data, name="undisturbed").all()
    batch = Batch(trained_store, theirs / "rows.parquet", data, output=output)
    batch.plan()
    for number in range(2):
        batch.chunk(number)
    place = stored(f"{batch.folder}/output.parquet") if inside else theirs / "output.parquet"
    dies("merge", trained_store, batch.merge_work({}), failpoint, tmp_path)
    assert place.exists() is (failpoint == "worker.after_merged")
    changed_at = place.stat().st_mtime_ns if place.exists() else None
    receipt = batch.merge()
    assert receipt["sha256"] == undisturbed["sha256"]
    assert receipt["errors"]["sha256"] == undisturbed["errors"]["sha256"]
    assert changed_at in (None, place.stat().st_mtime_ns)
    # What the dead one had written lies nowhere any more.
    assert not [*place.parent.glob(".*"), *stored(batch.folder).glob(".*")]
