"""Putting due jobs into bundles."""

from datetime import UTC, datetime
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from inference_portal.jobs import claims
from inference_portal.jobs.claims import Claim
from inference_portal.jobs.turns import Lane, Turn
from workers.manifest import BUNDLE_ROWS

LANE = Lane("cpu", False)
ALONE = Lane("cpu", True)
# The dispatcher asks for bundles of no rows at all in an isolation lane: each job exceeds that and is alone.
NO_ROWS = 0
NOW = datetime(2026, 11, 20, 12, 0, 0, 250_000, UTC)


def job(rows: int = 1, model: str = "m", version: str = "1", sha256: str = "ab", until: datetime | None = None) -> Turn:
    return Turn(uuid4(), 1, rows, until, NOW, (model, version, sha256))


def pack(lane: Lane, due: list[Turn], room: int, most_rows: int) -> list[Claim]:
    """Pack jobs of releases that all have the same limit."""
    return claims.pack(lane, due, room, lambda *_: most_rows)


def sizes(found: list[Claim]) -> list[list[int]]:
    return [[item.rows for item in claim.jobs] for claim in found]


def release(claim: Claim) -> tuple[str, str, str]:
    return claim.model, claim.version, claim.sha256


dues = st.lists(
    st.builds(
        job,
        rows=st.integers(1, 3) | st.integers(1, 400),
        model=st.sampled_from("mn"),
        version=st.sampled_from("12"),
        sha256=st.sampled_from(["ab", "cd"]),
        until=st.none() | st.just(NOW),
    ),
    max_size=60,
)
rooms = st.integers(0, 4)
limits = st.sampled_from([NO_ROWS, BUNDLE_ROWS])


@given(dues, rooms, limits)
def test_bundles_keep_every_rule(due: list[Turn], room: int, most_rows: int) -> None:
    found = pack(LANE, due, room, most_rows)

    sent = [item.id for claim in found for item in claim.jobs]
    assert len(sent) == len(set(sent))
    known = {str(turn.id): turn for turn in due}
    for claim in found:
        assert claim.lane == LANE
        assert claim.jobs
        assert sum(item.rows for item in claim.jobs) <= most_rows or len(claim.jobs) == 1
        for item in claim.jobs:
            turn = known[item.id]
            assert release(claim) == turn.release
            assert (item.attempt, item.rows) == (turn.attempt, turn.rows)
            assert item.expires == (None if turn.expires_at is None else NOW.timestamp())
    assert len(found) <= room
    for wanted in {turn.release for turn in due}:
        in_turn = [str(turn.id) for turn in due if turn.release == wanted]
        taken = [item.id for claim in found if release(claim) == wanted for item in claim.jobs]
        # In the order of their turns, without a gap.
        assert taken == in_turn[: len(taken)]
    assert len({claim.bundle for claim in found}) == len(found)


@given(dues, rooms, limits)
def test_a_lane_with_room_left_has_nothing_due_left(due: list[Turn], room: int, most_rows: int) -> None:
    found = pack(LANE, due, room, most_rows)
    if len(found) < room:
        assert {item.id for claim in found for item in claim.jobs} == {str(turn.id) for turn in due}


@given(dues, rooms)
def test_in_an_isolation_lane_every_job_is_alone(due: list[Turn], room: int) -> None:
    found = pack(ALONE, due, room, NO_ROWS)
    assert [len(claim.jobs) for claim in found] == [1] * min(room, len(due))
    assert [claim.ids for claim in found] == [[str(turn.id)] for turn in due[:room]]


def test_a_bundle_is_filled_to_its_limit() -> None:
    found = pack(LANE, [job() for _ in range(BUNDLE_ROWS + 1)], 9, BUNDLE_ROWS)
    assert sizes(found) == [[1] * BUNDLE_ROWS, [1]]


def test_a_larger_job_has_a_bundle_of_its_own() -> None:
    assert sizes(pack(LANE, [job(1), job(1000), job(2), job(3)], 9, BUNDLE_ROWS)) == [[1], [1000], [2, 3]]


def test_what_does_not_fit_is_not_overtaken_by_something_smaller() -> None:
    assert sizes(pack(LANE, [job(250), job(10), job(1)], 1, BUNDLE_ROWS)) == [[250]]


def test_without_room_or_jobs_nothing_is_packed() -> None:
    assert pack(LANE, [job()], 0, BUNDLE_ROWS) == []
    assert pack(LANE, [], 3, BUNDLE_ROWS) == []
