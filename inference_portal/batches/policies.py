"""What follows when a chunk has failed, and when all are through. Pure."""

from enum import StrEnum


class RetryPolicy(StrEnum):
    """What is run again after a failure: the whole run, what failed, or nothing."""

    ALL = "all"
    PARTIAL = "partial"
    NONE = "none"


class Fate(StrEnum):
    """What becomes of a chunk whose job has ended without a result."""

    # It gets a new job.
    AGAIN = "again"
    # The whole run starts anew.
    ANEW = "anew"
    # It stays failed; the run goes on.
    STAYS = "stays"
    # The whole run fails.
    FAILS = "fails"


class Verdict(StrEnum):
    """What becomes of a run."""

    GOES_ON = "goes on"
    MERGES = "merges"
    TOO_MANY_ERRORS = "too-many-errors"
    ALL_ROWS_FAILED = "all-rows-failed"


def fate(policy: RetryPolicy, *, chunk_tries: int, run_tries: int, most: int) -> Fate:
    """Decide about a failed chunk after so many tries of it, and of the run; `most` tries are allowed of either."""
    if policy is RetryPolicy.NONE:
        return Fate.STAYS
    if policy is RetryPolicy.PARTIAL:
        return Fate.AGAIN if chunk_tries < most else Fate.STAYS
    return Fate.ANEW if run_tries < most else Fate.FAILS


def verdict(*, rows: int, rows_failed: int, chunks: int, chunks_done: int, threshold: float | None) -> Verdict:
    """Decide about a run of which so much is through. `threshold` is the share of all rows that may fail.

    A run that has no hope ends at once: what failed stays failed, however the rest ends.
    """
    # Divided, not multiplied: 0.29 * 100 is a little less than 29, and 29 of 100 rows may fail.
    if threshold is not None and rows and rows_failed / rows > threshold:
        return Verdict.TOO_MANY_ERRORS
    if chunks_done < chunks:
        return Verdict.GOES_ON
    return Verdict.ALL_ROWS_FAILED if rows_failed >= rows else Verdict.MERGES
