"""What steps return is read strictly."""

from typing import Any

import orjson
import pytest

from inference_portal.batches.results import Merged, Planned, Predicted, Unreadable

RANGES = [{"number": 0, "first": 0, "rows": 3, "source": {}}, {"number": 1, "first": 3, "rows": 2, "source": {"a": 1}}]
PLAN = {"rows": 5, "columns": ["a"], "files": [["u", 1, "v"]], "output": "store://o", "ranges": RANGES}
MERGED = {"uri": "u", "rows": 5, "failed": 1, "bytes": 9, "sha256": "s", "errors": None}


def test_a_plan_is_read() -> None:
    plan = Planned.read(orjson.dumps(PLAN))
    assert (plan.rows, plan.columns, plan.output) == (5, ["a"], "store://o")
    assert plan.ranges == [{"first": 0, "rows": 3, "source": {}}, {"first": 3, "rows": 2, "source": {"a": 1}}]


@pytest.mark.parametrize(
    "change",
    [
        {"rows": 6},
        {"ranges": []},
        {"rows": 0, "ranges": []},
        {"ranges": [RANGES[1]]},
        {"ranges": [RANGES[0], RANGES[0]]},
        {"ranges": [{**RANGES[0], "rows": 0}]},
        {"ranges": [{"first": 0}]},
        {"ranges": 7},
        {"rows": None},
        {"files": None},
    ],
)
def test_a_plan_with_gaps_or_of_another_shape_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(Unreadable):
        Planned.read(orjson.dumps(PLAN | change))


@pytest.mark.parametrize("result", [None, b"", b"[]", b"{", b"7", b"{}", b'{"rows": "x", "failed": 1}'])
def test_what_is_no_result_is_refused(result: bytes | None) -> None:
    for kind in (Planned, Predicted, Merged):
        with pytest.raises(Unreadable):
            kind.read(result)


def test_a_chunk_is_read() -> None:
    assert Predicted.read(b'{"rows": 5, "failed": 2, "sha256": "x"}') == Predicted(5, 2)
    for failed in (-1, 6):
        with pytest.raises(Unreadable):
            Predicted.read(orjson.dumps({"rows": 5, "failed": failed}))


def test_a_merge_is_read() -> None:
    merged = Merged.read(orjson.dumps(MERGED))
    assert (merged.rows, merged.failed, merged.errors) == (5, 1, None)
    assert merged.output == {"uri": "u", "rows": 5, "bytes": 9, "sha256": "s"}
