"""The stored matrix as the rows that a person reads and sends again."""

import numpy as np
import orjson

from inference_portal.jobs.stored_input import StoredInput
from workers.schema import Schema
from workers.template.columns import Column

MATRIX = np.array([[0.1, 1], [np.nan, np.nan]], dtype="<f4")


def text(kept: StoredInput) -> bytes:
    return orjson.dumps(kept.rows, option=orjson.OPT_SERIALIZE_NUMPY)


def test_rows_are_by_column_with_categories_as_text() -> None:
    columns = (Column(name="x", missing=True), Column(name="c", type="category", categories=("a", "b"), missing=True))
    kept = StoredInput(MATRIX, Schema(columns))
    assert kept.names == ("x", "c")
    assert text(kept) == b'[{"x":0.1,"c":"b"},{"x":null,"c":null}]'


def test_rows_are_lists_of_numbers_while_nobody_knows_the_columns() -> None:
    kept = StoredInput(MATRIX, None)
    assert kept.names is None
    assert text(kept) == b"[[0.1,1.0],[null,null]]"
