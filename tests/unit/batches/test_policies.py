"""What follows when a chunk has failed, and when all are through."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_portal.batches.policies import Fate, RetryPolicy, Verdict, fate, verdict

ALL, PARTIAL, NONE = RetryPolicy.ALL, RetryPolicy.PARTIAL, RetryPolicy.NONE
AGAIN, ANEW, STAYS, FAILS = Fate.AGAIN, Fate.ANEW, Fate.STAYS, Fate.FAILS

# Policy -> tries of the chunk, tries of the run -> with three that are allowed.
TABLE = {
    (NONE, 1, 1): STAYS,
    (NONE, 3, 3): STAYS,
    (PARTIAL, 1, 1): AGAIN,
    (PARTIAL, 2, 1): AGAIN,
    (PARTIAL, 3, 1): STAYS,
    (PARTIAL, 4, 1): STAYS,
    # How often the run was tried is nothing to a chunk, and the other way round.
    (PARTIAL, 1, 9): AGAIN,
    (ALL, 1, 1): ANEW,
    (ALL, 1, 2): ANEW,
    (ALL, 1, 3): FAILS,
    (ALL, 9, 1): ANEW,
}
# Threshold, failed rows of 100, chunks done of 4 -> verdict.
VERDICTS = [
    (None, 0, 0, Verdict.GOES_ON),
    (None, 0, 3, Verdict.GOES_ON),
    (None, 75, 3, Verdict.GOES_ON),
    (None, 0, 4, Verdict.MERGES),
    (None, 99, 4, Verdict.MERGES),
    (None, 100, 4, Verdict.ALL_ROWS_FAILED),
    (0.0, 0, 4, Verdict.MERGES),
    (0.0, 1, 1, Verdict.TOO_MANY_ERRORS),
    (0.1, 10, 1, Verdict.GOES_ON),
    (0.1, 10, 4, Verdict.MERGES),
    (0.1, 11, 1, Verdict.TOO_MANY_ERRORS),
    (0.1, 11, 4, Verdict.TOO_MANY_ERRORS),
    (0.29, 29, 4, Verdict.MERGES),
    (0.29, 30, 4, Verdict.TOO_MANY_ERRORS),
    (1.0, 99, 4, Verdict.MERGES),
    (1.0, 100, 4, Verdict.ALL_ROWS_FAILED),
]


@pytest.mark.parametrize(("policy", "chunk_tries", "run_tries"), TABLE)
def test_each_policy_has_its_own_answer_to_a_failed_chunk(
    policy: RetryPolicy, chunk_tries: int, run_tries: int
) -> None:
    expected = TABLE[policy, chunk_tries, run_tries]
    assert fate(policy, chunk_tries=chunk_tries, run_tries=run_tries, most=3) is expected


@pytest.mark.parametrize("policy", RetryPolicy)
def test_with_one_attempt_nothing_is_tried_again(policy: RetryPolicy) -> None:
    assert fate(policy, chunk_tries=1, run_tries=1, most=1) in {STAYS, FAILS}


@pytest.mark.parametrize(("threshold", "failed", "done", "expected"), VERDICTS)
def test_a_run_ends_early_without_hope_and_merges_when_all_is_through(
    threshold: float | None, failed: int, done: int, expected: Verdict
) -> None:
    assert verdict(rows=100, rows_failed=failed, chunks=4, chunks_done=done, threshold=threshold) is expected


@given(
    rows=st.integers(1, 10**12),
    share=st.floats(0, 1),
    done=st.integers(0, 10),
    threshold=st.none() | st.floats(0, 1),
)
def test_more_failed_rows_never_help(rows: int, share: float, done: int, threshold: float | None) -> None:
    failed = int(rows * share)
    found = verdict(rows=rows, rows_failed=failed, chunks=10, chunks_done=done, threshold=threshold)
    after = verdict(rows=rows, rows_failed=rows, chunks=10, chunks_done=10, threshold=threshold)
    assert after in {Verdict.ALL_ROWS_FAILED, Verdict.TOO_MANY_ERRORS}
    assert (found is Verdict.MERGES) <= (done == 10 and failed < rows)
