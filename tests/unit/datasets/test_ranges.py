"""How row groups become ranges."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.datasets import DatasetError, ranges
from workers.datasets.ranges import Ranges


def cut(chunk_rows: int, *files: list[int]) -> Ranges:
    made = Ranges(chunk_rows)
    for number, groups in enumerate(files):
        made.add_groups({"file": str(number)}, groups)
    made.close()
    return made


sizes = st.one_of(st.integers(0, 300), st.sampled_from([65_536, 65_537, 200_000, 1_000_000, 3_000_001]))


@given(st.integers(1, 400), st.lists(st.lists(sizes, max_size=4), min_size=1, max_size=4))
def test_ranges_hold_every_row_once_and_in_order(thousands: int, files: list[list[int]]) -> None:
    chunk_rows = thousands * (1 if thousands < 200 else 1000)
    files = [[rows if chunk_rows > 1000 else rows % 1000 for rows in groups] for groups in files]
    made = cut(chunk_rows, *files)
    place = iter([(f, g, rows) for f, groups in enumerate(files) for g, rows in enumerate(groups) if rows])
    file, group, rows = -1, -1, 0
    at = 0
    for number, each in enumerate(made.made):
        assert (each.number, each.rows) == (number, sum(part["rows"] for part in each.source["parts"]))
        for part in each.source["parts"]:
            left, skip = part["rows"], part["skip"]
            for here in range(*part["groups"]):
                if at == rows:
                    file, group, rows = next(place)
                    at = 0
                if files[int(part["file"])][here] == 0:
                    continue
                assert (int(part["file"]), here, skip) == (file, group, at)
                taken = min(left, rows - at)
                at, left, skip = at + taken, left - taken, 0
            assert left == 0
    assert next(place, None) is None and at == rows
    assert made.rows == sum(sum(groups) for groups in files)


def test_small_row_groups_are_cut_at_the_very_row() -> None:
    made = cut(100, [250], [40, 30])
    assert [each.rows for each in made.made] == [100, 100, 100, 20]
    assert [each.first for each in made.made] == [0, 100, 200, 300]
    assert made.made[2].source["parts"] == [
        {"file": "0", "groups": [0, 1], "skip": 200, "rows": 50},
        {"file": "1", "groups": [0, 2], "skip": 0, "rows": 50},
    ]


def test_large_row_groups_make_few_ranges_of_their_own() -> None:
    assert [each.rows for each in cut(100_000, [120_000, 1_000, 400_000]).made] == [120_000, 1_000, *[200_000] * 2]
    assert [each.rows for each in cut(1_000, [1_000_000]).made] == [500_000] * 2
    assert [each.rows for each in cut(100_000, [6_000_000]).made] == [1_000_000] * 6


def test_too_many_ranges_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "MAX_RANGES", 3)
    assert len(cut(10, [30]).made) == 3
    with pytest.raises(DatasetError, match="more than 3 chunks"):
        cut(10, [31])
    with pytest.raises(DatasetError, match="at least 1 row"):
        cut(0, [1])
