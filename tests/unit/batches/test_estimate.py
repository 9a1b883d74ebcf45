"""When a run will be through, and whether that is too late."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_portal.batches.estimate import FARTHEST, Progress, estimate, is_at_risk, rows_per_second

NOW = datetime(2030, 1, 31, 6, tzinfo=UTC)
BEGUN = NOW - timedelta(seconds=100)


def test_what_is_left_takes_as_long_as_the_same_took_before() -> None:
    progress = Progress(rows=1000, done=500, begun=BEGUN)
    assert rows_per_second(progress, NOW) == 5
    assert estimate(progress, NOW) == NOW + timedelta(seconds=100)


def test_what_an_earlier_attempt_has_done_is_no_pace_of_this_one() -> None:
    progress = Progress(rows=1000, done=900, before=800, begun=BEGUN)
    assert rows_per_second(progress, NOW) == 1
    assert estimate(progress, NOW) == NOW + timedelta(seconds=100)


def test_the_last_row_is_done_now() -> None:
    assert estimate(Progress(rows=10, done=10, begun=BEGUN), NOW) == NOW


@pytest.mark.parametrize(
    "progress",
    [
        Progress(rows=10, done=0),
        Progress(rows=10, done=0, begun=BEGUN),
        Progress(rows=10, done=5, before=5, begun=BEGUN),
        Progress(rows=10, done=5, begun=NOW),
        Progress(rows=10, done=5, begun=NOW + timedelta(seconds=1)),
    ],
)
def test_before_there_is_a_pace_nothing_is_said(progress: Progress) -> None:
    assert estimate(progress, NOW) is None
    left = timedelta(seconds=(progress.rows - progress.done) / 2)
    assert estimate(progress, NOW, known=2.0) == NOW + left
    assert estimate(Progress(rows=0, done=0), NOW, known=2.0) is None


@pytest.mark.parametrize(
    ("left", "eta", "has_workers", "expected"),
    [
        (None, 100, True, False),
        (None, None, False, False),
        (100, 99, True, False),
        (100, 100, True, False),
        (100, 101, True, True),
        # By its pace it will be there; workers that have gone make the pace worse by themselves.
        (100, 50, False, False),
        (100, None, True, False),
        (100, None, False, True),
    ],
)
def test_a_run_is_at_risk_by_its_pace_or_for_want_of_workers(
    left: int | None, eta: int | None, has_workers: bool, expected: bool
) -> None:
    def at(seconds: int | None) -> datetime | None:
        return None if seconds is None else NOW + timedelta(seconds=seconds)

    assert is_at_risk(deadline=at(left), eta=at(eta), has_workers=has_workers) is expected


@given(rows=st.integers(1, 10**15), share=st.floats(0, 1), seconds=st.floats(1e-6, 1e8))
def test_an_estimate_is_never_before_now_and_never_out_of_the_calendar(rows: int, share: float, seconds: float) -> None:
    begun = NOW - timedelta(seconds=seconds)
    eta = estimate(Progress(rows=rows, done=int(rows * share), begun=begun), NOW)
    assert eta is None or NOW <= eta <= NOW + FARTHEST
