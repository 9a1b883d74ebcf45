"""The check of values against a signature."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.manifest import Column
from workers.schema import EXACT_INTEGERS, MAX_FAULTS, Schema

SCHEMA = Schema(
    (Column(name="any"), Column(name="whole", type="int", range=(-3, 3)), Column(name="maybe", missing=True))
)


def faults(*rows: list[float], schema: Schema = SCHEMA) -> list[tuple[int, int, str]]:
    return [(f.row, f.column, f.reason) for f in schema.faults(np.array(rows, dtype=np.float64))]


def one_column(**fields: Any) -> Schema:
    return Schema((Column(name="x", **fields),))


def test_right_values_have_no_faults() -> None:
    assert faults([1.5, 3, np.nan], [-1e38, -3, 0]) == []


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ([np.nan, 0, 0], 0, "a value is required, this column may not be missing"),
        ([np.inf, 0, 0], 0, "expected a finite number that fits float32"),
        ([0, 0, -np.inf], 2, "expected a finite number that fits float32"),
        ([3.5e38, 0, 0], 0, "expected a finite number that fits float32"),
        ([0, 0.5, 0], 1, "expected a whole number of at most 16,777,216 in size, got 0.5"),
        ([0, 4, 0], 1, "4 is outside the range -3 to 3"),
        ([0, np.nan, 0], 1, "a value is required, this column may not be missing"),
    ],
)
def test_each_wrong_value_is_named(row: list[float], column: int, reason: str) -> None:
    assert faults([0, 0, 0], row) == [(1, column, reason)]


def test_a_value_that_is_outside_by_little_is_shown_with_enough_digits() -> None:
    assert faults([1000.0001], schema=one_column(range=(0, 1000)))[0][2] == "1000.0001 is outside the range 0 to 1000"


def test_bounds_are_inclusive_also_where_float32_rounds_them() -> None:
    schema = one_column(range=(0.1, 0.7))
    assert faults([0.1], [0.7], schema=schema) == []
    for single in (np.float32(0.1), np.float32(0.7)):
        assert schema.faults(np.array([[single]], dtype=np.float32)) == []
    assert len(faults([0.0999], [0.7001], schema=schema)) == 2


def test_whole_numbers_end_where_float32_holds_them_no_longer() -> None:
    schema = one_column(type="int")
    assert faults([EXACT_INTEGERS], [-EXACT_INTEGERS], schema=schema) == []
    assert len(faults([EXACT_INTEGERS + 1], [-EXACT_INTEGERS - 1], schema=schema)) == 2


def test_at_most_twenty_faults_are_returned_row_by_row() -> None:
    found = faults(*[[np.nan, 0, 0]] * 50)
    assert [row for row, _, _ in found] == list(range(MAX_FAULTS))


bound = st.floats(-1e6, 1e6)


@given(st.lists(bound, min_size=2, max_size=2).map(sorted), st.data())
def test_the_worker_accepts_in_float32_what_the_portal_accepted_in_float64(limits: list[float], data: Any) -> None:
    near = [x for b in limits for x in (b, np.nextafter(b, np.inf), np.nextafter(b, -np.inf), float(np.float32(b)))]
    value = data.draw(st.floats() | st.sampled_from(near))
    for fields in ({"range": limits}, {"type": "int"}, {"missing": True}):
        schema = one_column(**fields)
        values = np.array([[value]], dtype=np.float64)
        if not schema.faults(values):
            assert schema.faults(values.astype(np.float32)) == []
