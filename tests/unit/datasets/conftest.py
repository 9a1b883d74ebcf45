"""A folder that may be read, and short ways to plan and read what is in it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from workers.datasets import Block, Input, Plan, plan, read
from workers.schema import Schema
from workers.template.columns import Column

SCHEMA = Schema((Column(name="a"), Column(name="b", missing=True)))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The one folder that DATA_FOLDERS names; the system's own storage is beside it."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "store"))
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.setenv("DATA_FOLDERS", f"{tmp_path / 'elsewhere'}:{inside}")
    return inside


class Whole:
    """A data set that was planned, and then read range by range as a batch does it."""

    def __init__(self, planned: Plan, blocks: list[list[Block]]) -> None:
        self.plan = planned
        self.ranges = [r.rows for r in planned.ranges]
        flat = [block for of_range in blocks for block in of_range]
        self.blocks = [len(block.values) for block in flat]
        self.values: npt.NDArray[np.float32] = np.concatenate([block.values for block in flat])
        self.kept = pa.concat_tables([block.kept for block in flat])
        self.faults: list[tuple[int, str, str]] = []
        first = 0
        for block in flat:
            self.faults += [(first + fault.row, fault.column, fault.reason) for fault in block.faults]
            first += len(block.values)
        assert [sum(len(block.values) for block in of_range) for of_range in blocks] == self.ranges
        assert len(self.values) == planned.rows
        assert self.kept.num_rows == (planned.rows if self.kept.num_columns else 0)


def whole(
    uri: str | Path,
    schema: Schema = SCHEMA,
    keep: Sequence[str] = (),
    chunk_rows: int = 1000,
    batch_rows: int = 65_536,
    **options: Any,
) -> Whole:
    """Plan and read all; a path stands for its URI."""
    data = Input(uri=uri if isinstance(uri, str) else f"file://{uri}", **options)
    planned = plan(data, schema, keep, chunk_rows, "store://spool")
    blocks = [list(read(data, planned.files, r.source, schema, keep, batch_rows)) for r in planned.ranges]
    return Whole(planned, blocks)


@pytest.fixture
def failing(folder: Path) -> Callable[..., str]:
    """Return what the plan says about a wrong data set."""

    def said(*args: Any, **options: Any) -> str:
        from workers.datasets import DatasetError

        with pytest.raises(DatasetError) as error:
            whole(*args, **options)
        return str(error.value).replace(f"file://{folder}/", "").replace(f"file://{folder}", "")

    return said
