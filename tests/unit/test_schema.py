"""The check of values against a signature."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.schema import MAX_FAULTS, CellFault, Schema
from workers.template.columns import EXACT_INTEGERS, Column

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


PETS = Column(name="pet", type="category", categories=("cat", "dog", "eel", "fox", "gnu", "hen"), missing=True)
CARS = Column(name="car", type="category", categories=("bus", "van"))


def test_a_category_is_its_position_and_what_is_none_is_refused_by_naming_the_first_ones() -> None:
    schema = Schema((PETS, CARS))
    assert schema.codes(0, ["hen", None, float("nan")]).tolist()[:1] == [5]
    assert np.isnan(schema.codes(0, [None, float("nan")])).all()
    for other in ("", "Cat", 1, True, 0.0, b"cat", []):
        (code,) = schema.codes(0, [other])
        assert faults([code, 0], schema=schema) == [
            (0, 0, "expected one of 'cat', 'dog', 'eel', 'fox', 'gnu' … (6 in all)")
        ]
    assert faults([np.nan, np.nan], schema=schema) == [(0, 1, "a value is required, this column may not be missing")]
    for position in (2, 0.5, -1, np.inf):
        assert faults([0, position], schema=schema) == [(0, 1, "expected one of 'bus', 'van'")]


def test_cells_are_what_a_client_would_send() -> None:
    schema = Schema((Column(name="x", missing=True), PETS, CARS))
    assert schema.cells(np.array([1.5, 3, 1], np.float32)) == [1.5, "fox", "van"]
    number, pet, car = schema.cells(np.array([np.nan, np.nan, 0], np.float32))
    assert np.isnan(number)
    assert (pet, car) == (None, "bus")


def test_another_version_takes_over_columns_by_name_and_categories_by_text() -> None:
    old = Schema((Column(name="x"), PETS, CARS))
    new = Schema((CARS, PETS.model_copy(update={"categories": ("hen", "cat")}), Column(name="x")))
    matrix = np.array([[1.5, 0, 1], [2.5, 5, 0], [3.5, np.nan, 0], [4.5, 1, 0]], np.float32)
    taken = new.taken_over(matrix, old)
    np.testing.assert_array_equal(taken[:3], [[1, 1, 1.5], [0, 0, 2.5], [0, np.nan, 3.5]])
    assert new.faults(taken) == [CellFault(3, 1, "expected one of 'hen', 'cat'")]


def test_a_default_stands_for_missing_values_and_is_not_required() -> None:
    schema = Schema(
        (
            Column(name="x", default=1.5),
            CARS.model_copy(update={"default": "van"}),
            Column(name="y", missing=True),
            Column(name="z"),
        )
    )
    assert schema.required == ("z",)
    filled = schema.filled(np.array([[np.nan, np.nan, np.nan, np.nan], [0, 0, 0, 0]]))
    np.testing.assert_array_equal(filled, [[1.5, 1, np.nan, np.nan], [0, 0, 0, 0]])


def test_another_version_may_have_columns_more_that_are_not_required() -> None:
    old = Schema((CARS,))
    new = Schema((Column(name="x", default=1.5), CARS, Column(name="y", missing=True)))
    taken = new.taken_over(np.array([[1]], np.float32), old)
    np.testing.assert_array_equal(new.filled(taken), [[1.5, 1, np.nan]])
    with pytest.raises(KeyError):
        Schema((Column(name="x"),)).taken_over(np.array([[1]], np.float32), old)


def test_a_column_that_changed_between_number_and_category_is_not_taken_over() -> None:
    number, category = Schema((Column(name="car"),)), Schema((CARS,))
    matrix = np.array([[1]], np.float32)
    assert category.faults(category.taken_over(matrix, number))[0].reason == "expected one of 'bus', 'van'"
    assert number.faults(number.taken_over(matrix, category))[0].reason == "expected a finite number that fits float32"


WIDE = Schema((*(Column(name=f"c{i}", missing=i % 2 == 0, range=(-9, 9)) for i in range(5)), PETS, CARS))


@given(rows=st.integers(0, 200), bad=st.integers(0, 30), seed=st.integers(0, 2**32 - 1))
def test_the_first_fault_of_every_bad_row_is_found_as_if_it_were_alone(rows: int, bad: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    matrix = random.integers(0, 2, (rows, len(WIDE.names))).astype(np.float32)
    for _ in range(bad if rows else 0):
        values = [np.nan, np.inf, -np.inf, 0.5, -1, 9.5, -20, 3e8]
        matrix[random.integers(rows), random.integers(len(WIDE.names))] = random.choice(values)
    alone = [(row, WIDE.faults(matrix[row : row + 1])[:1]) for row in range(rows)]
    assert WIDE.bad_rows(matrix) == [CellFault(row, f.column, f.reason) for row, found in alone for f in found]


def test_all_rows_of_a_large_matrix_may_be_bad() -> None:
    found = SCHEMA.bad_rows(np.full((70_000, 3), np.nan, np.float32))
    assert [fault.row for fault in found] == list(range(70_000))
    assert {(fault.column, fault.reason) for fault in found} == {
        (0, "a value is required, this column may not be missing")
    }
