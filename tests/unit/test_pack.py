"""Putting due jobs into bundles."""

from uuid import UUID, uuid4

from hypothesis import given
from hypothesis import strategies as st

from inference_portal.jobs.claims import BUNDLE_ROWS, Claim, pack

Due = tuple[str, str, str, str, UUID, int, int]


def job(rows: int = 1, model: str = "m", pool: str = "cpu", version: str = "1", sha256: str = "ab") -> Due:
    return pool, model, version, sha256, uuid4(), 1, rows


def sizes(claims: list[Claim]) -> list[list[int]]:
    return [[item.rows for item in claim.jobs] for claim in claims]


dues = st.lists(
    st.builds(
        job,
        rows=st.integers(1, 3) | st.integers(1, 400),
        model=st.sampled_from("mn"),
        pool=st.sampled_from(["cpu", "gpu"]),
        version=st.sampled_from("12"),
        sha256=st.sampled_from(["ab", "cd"]),
    ),
    max_size=60,
)
rooms = st.dictionaries(st.sampled_from(["cpu", "gpu"]), st.integers(1, 4))


@given(dues, rooms)
def test_bundles_keep_every_rule(due: list[Due], room: dict[str, int]) -> None:
    claims = pack(due, room)

    sent = [item.id for claim in claims for item in claim.jobs]
    assert len(sent) == len(set(sent))
    known = {str(d[4]): d for d in due}
    for claim in claims:
        assert claim.jobs
        assert sum(item.rows for item in claim.jobs) <= BUNDLE_ROWS or len(claim.jobs) == 1
        for item in claim.jobs:
            assert known[item.id][:4] == (claim.pool, claim.model, claim.version, claim.sha256)
            assert known[item.id][5:] == (item.attempt, item.rows)
    for pool in ("cpu", "gpu"):
        assert sum(claim.pool == pool for claim in claims) <= room.get(pool, 0)
    for release in {d[:4] for d in due}:
        accepted = [str(d[4]) for d in due if d[:4] == release]
        of_release = [c for c in claims if (c.pool, c.model, c.version, c.sha256) == release]
        # In order of acceptance, without a gap.
        assert [item.id for c in of_release for item in c.jobs] == accepted[: sum(len(c.jobs) for c in of_release)]
    assert len({claim.bundle for claim in claims}) == len(claims)


@given(dues, rooms)
def test_a_pool_with_room_left_has_nothing_due_left(due: list[Due], room: dict[str, int]) -> None:
    claims = pack(due, room)
    sent = {item.id for claim in claims for item in claim.jobs}
    for pool, free in room.items():
        if sum(claim.pool == pool for claim in claims) < free:
            assert {str(d[4]) for d in due if d[0] == pool} <= sent


def test_a_bundle_is_filled_to_its_limit() -> None:
    assert sizes(pack([job() for _ in range(BUNDLE_ROWS + 1)], {"cpu": 9})) == [[1] * BUNDLE_ROWS, [1]]


def test_a_larger_job_has_a_bundle_of_its_own() -> None:
    assert sizes(pack([job(1), job(1000), job(2), job(3)], {"cpu": 9})) == [[1], [1000], [2, 3]]


def test_what_does_not_fit_is_not_overtaken_by_something_smaller() -> None:
    assert sizes(pack([job(250), job(10), job(1)], {"cpu": 1})) == [[250]]


def test_without_room_nothing_is_packed() -> None:
    assert pack([job(pool="gpu")], {"cpu": 3}) == []
    assert pack([], {"cpu": 3}) == []
