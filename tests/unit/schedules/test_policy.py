"""What becomes of instants that are due."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_portal.batches.schedules.policy import GRACE, MAX_WAITING, CatchUp, Overlap, Situation, decide

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
TIMES = [NOW - 60 * MINUTE, NOW - 40 * MINUTE, NOW - 20 * MINUTE]


def run(
    due: list[datetime], catch_up: str, overlap: str = "skip", *, busy: bool = False, waiting: int = 0
) -> list[bool]:
    situation = Situation(NOW, CatchUp(catch_up), Overlap(overlap), busy, waiting)
    return [decision.runs for decision in decide(due, False, situation)]


@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_what_is_due_now_runs(catch_up: CatchUp) -> None:
    assert run([NOW], catch_up) == run([NOW - GRACE], catch_up) == [True]


@pytest.mark.parametrize(
    ("catch_up", "missed", "with_one_now"),
    [
        ("skip", [False, False, False], [False, False, False, True]),
        ("latest", [False, False, True], [False, False, False, True]),
        ("all", [True, True, True], [True, True, True, True]),
    ],
)
def test_after_downtime_catch_up_decides(catch_up: str, missed: list[bool], with_one_now: list[bool]) -> None:
    assert run(TIMES, catch_up) == missed
    assert run([*TIMES, NOW], catch_up) == with_one_now


def test_while_another_runs_overlap_decides() -> None:
    assert run([NOW], "latest", "skip", busy=True) == [False]
    assert run([NOW], "latest", "queue", busy=True) == [True]
    assert run(TIMES, "latest", "skip", busy=True) == [False, False, False]


def test_what_all_catches_up_on_waits_for_its_turn() -> None:
    assert run([*TIMES, NOW], "all", "skip", busy=True) == [True, True, True, False]


def test_where_not_all_have_room_the_oldest_go() -> None:
    assert run(TIMES, "all", waiting=MAX_WAITING - 2) == [False, True, True]
    assert run([NOW], "latest", "queue", busy=True, waiting=MAX_WAITING) == [False]


def test_whoever_is_skipped_is_told_why() -> None:
    skipped = decide(TIMES, True, Situation(NOW, CatchUp.SKIP, Overlap.SKIP))
    assert all("catch_up is 'skip'" in decision.why for decision in skipped)
    assert "the ones before it" in skipped[0].why
    (late,) = decide([NOW], False, Situation(NOW, CatchUp.SKIP, Overlap.SKIP, busy=True))
    assert "still under way" in late.why


@given(
    st.lists(st.integers(0, 500), min_size=1, unique=True).map(sorted),
    st.booleans(),
    st.builds(
        Situation,
        st.just(NOW),
        st.sampled_from(CatchUp),
        st.sampled_from(Overlap),
        st.booleans(),
        st.integers(0, MAX_WAITING),
    ),
)
def test_each_instant_is_decided_on_once(minutes: list[int], are_more: bool, situation: Situation) -> None:
    due = [NOW - m * MINUTE for m in reversed(minutes)]
    decisions = decide(due, are_more, situation)
    assert [decision.due_at for decision in decisions] == due
    assert all(decision.runs or decision.why for decision in decisions)
    assert sum(decision.runs for decision in decisions) <= MAX_WAITING - situation.waiting
