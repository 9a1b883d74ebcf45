"""What the steps make of a work that isn't one."""

import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from tests.stack import ROOT
from tests.unit.steps.batch import Batch, left, stored, table
from workers import steps
from workers.datasets import DatasetError


@pytest.mark.parametrize(
    ("step", "work", "message"),
    [
        ("chunk", b"{", "the work of the step 'chunk' is not JSON"),
        ("nothing", b"{}", "there is no step of the kind 'nothing'"),
        ("", b"{}", "there is no step of the kind ''"),
        ("clean", b"[]", "the step's work can't be understood: it: "),
        ("clean", b"{}", "folder: Field required"),
        ("clean", b'{"folder": "store://uploads/1"}', "folder: "),
        ("clean", b'{"folder": "store://batches/.."}', "folder: "),
        ("clean", b'{"folder": "store://batches/1/work"}', "folder: "),
        ("plan", b'{"input": {"uri": "store://x", "delimiter": "--"}}', r"input.delimiter: .*one character"),
        ("merge", b'{"parts": []}', "the step's work can't be understood: "),
    ],
)
def test_what_can_not_be_understood_is_an_error_that_names_it(
    trained_store: Path, step: str, work: bytes, message: str
) -> None:
    release = Batch.release_of(trained_store, "two")
    with pytest.raises(DatasetError, match=message):
        steps.run(step, work, release, None)


def test_clean_removes_the_parts_and_nothing_else_and_does_so_twice(trained_store: Path, theirs: Path) -> None:
    batch = Batch(trained_store, theirs / "rows.parquet", table(100))
    batch.all({0: "lost"})
    assert left(stored(f"{batch.folder}/work")) == []
    batch = Batch(trained_store, theirs / "rows.parquet", table(800))
    batch.all()
    assert left(stored(f"{batch.folder}/work")) != []
    for _ in range(2):
        assert orjson.loads(steps.run("clean", orjson.dumps({"folder": batch.folder}), None, None)) == {}
        assert left(stored(batch.folder)) == ["errors.csv", "merged.json", "output.parquet"]


def test_a_worker_that_does_no_steps_is_spared_their_libraries() -> None:
    code = "import sys, workers.tasks; sys.exit('pyarrow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
