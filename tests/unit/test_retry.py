"""The decision after a failed attempt."""

from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_portal.jobs.retry import (
    BLAMELESS,
    ELSEWHERE,
    ELSEWHERE_SECONDS,
    MAX_DELAY_SECONDS,
    REFUSED_ATTEMPTS,
    SUSPECT,
    TRANSIENT,
    Decision,
    decide,
)
from inference_portal.jobs.states import Event
from workers.contract import ErrorCode
from workers.manifest import Policy

POLICY = Policy(attempts=3, backoff_seconds=2)
FAIL, RETRY, GIVE_UP, EXPIRE = Event.FAIL, Event.RETRY, Event.GIVE_UP, Event.EXPIRE

# Code -> for a job in the lane of its pool and for one that is tried alone: the events after 0, 1, 2 and 3 counted
# failures before, of three attempts that the policy allows.
TABLE: dict[ErrorCode, tuple[list[Event], list[Event]]] = {
    ErrorCode.BAD_DATA: ([FAIL] * 4, [FAIL] * 4),
    ErrorCode.MODEL_ERROR: ([FAIL] * 4, [FAIL] * 4),
    ErrorCode.MODEL_UNAVAILABLE: ([RETRY, RETRY, GIVE_UP, GIVE_UP], [RETRY, RETRY, GIVE_UP, GIVE_UP]),
    ErrorCode.OUT_OF_MEMORY: ([RETRY, RETRY, GIVE_UP, GIVE_UP], [RETRY, RETRY, GIVE_UP, GIVE_UP]),
    ErrorCode.CONTAINER_UNAVAILABLE: ([RETRY, RETRY, GIVE_UP, GIVE_UP], [RETRY, RETRY, GIVE_UP, GIVE_UP]),
    ErrorCode.CONTAINER_ERROR: ([FAIL] * 4, [FAIL] * 4),
    # So many more are allowed for these.
    ErrorCode.MESSAGE_REFUSED: ([RETRY] * 4, [RETRY] * 4),
    ErrorCode.STORAGE_AWAY: ([RETRY] * 4, [RETRY] * 4),
    ErrorCode.WORKER_LOST: ([RETRY] * 4, [RETRY, RETRY, GIVE_UP, GIVE_UP]),
    ErrorCode.TIMED_OUT: ([RETRY] * 4, [RETRY, RETRY, GIVE_UP, GIVE_UP]),
    ErrorCode.LEASE_EXPIRED: ([RETRY] * 4, [RETRY, RETRY, GIVE_UP, GIVE_UP]),
    ErrorCode.EXPIRED: ([EXPIRE] * 4, [EXPIRE] * 4),
}
WHO_IS_SUSPECTED = {ErrorCode.WORKER_LOST, ErrorCode.TIMED_OUT, ErrorCode.LEASE_EXPIRED}

policies = st.builds(Policy, attempts=st.integers(1, 20), backoff_seconds=st.floats(0, 3600))
jitters = st.floats(0, 1, exclude_max=True)


def test_every_code_of_the_contract_is_decided_in_the_table_above() -> None:
    assert set(TABLE) == set(ErrorCode)


@pytest.mark.parametrize("failures", range(4))
@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("code", ErrorCode)
def test_each_code_lane_and_number_of_failures_has_its_event(code: ErrorCode, isolated: bool, failures: int) -> None:
    decision = decide(code, failures=failures, isolated=isolated, policy=POLICY, jitter=0.5)
    assert decision.event is TABLE[code][isolated][failures]


@pytest.mark.parametrize("failures", range(4))
@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("code", ErrorCode)
def test_a_suspect_goes_on_at_once_alone_and_uncounted(code: ErrorCode, isolated: bool, failures: int) -> None:
    decision = decide(code, failures=failures, isolated=isolated, policy=POLICY, jitter=0.5)
    if code in WHO_IS_SUSPECTED and not isolated:
        assert decision == Decision(RETRY, delay=0.0, isolate=True, counts=False)
    else:
        # Who is tried alone stays alone, and is counted whatever happens to it, but for what is blameless.
        assert decision.counts is (code not in BLAMELESS | {ErrorCode.EXPIRED})
        assert decision.isolate is (isolated and decision.event is RETRY)
        assert (decision.delay > 0) is (decision.event is RETRY)


def test_who_is_suspected_may_always_be_tried_again() -> None:
    assert SUSPECT == WHO_IS_SUSPECTED
    assert SUSPECT < TRANSIENT


@pytest.mark.parametrize(("failures", "jitter", "delay"), [(0, 0.0, 1.0), (0, 1.0, 2.0), (1, 0.0, 2.0), (1, 0.5, 3.0)])
@pytest.mark.parametrize("isolated", [False, True])
def test_the_delay_doubles_and_half_of_it_is_random(failures: int, jitter: float, delay: float, isolated: bool) -> None:
    decision = decide(ErrorCode.OUT_OF_MEMORY, failures=failures, isolated=isolated, policy=POLICY, jitter=jitter)
    assert decision == Decision(RETRY, delay, isolate=isolated)


@pytest.mark.parametrize("code", sorted(ELSEWHERE))
def test_a_worker_that_lacks_the_model_or_is_too_old_leaves_time_for_others(code: ErrorCode) -> None:
    for number, delay in ((0, ELSEWHERE_SECONDS), (1, 2 * ELSEWHERE_SECONDS)):
        before = {"refusals": number, "failures": 0} if code in BLAMELESS else {"failures": number}
        assert decide(code, isolated=False, policy=POLICY, jitter=1.0, **before).delay == delay
    patient = Policy(attempts=3, backoff_seconds=60)
    assert decide(code, failures=0, isolated=False, policy=patient, jitter=1.0).delay == 60


@pytest.mark.parametrize("attempts", [1, 3, 20])
def test_an_upgrade_may_take_half_an_hour(attempts: int) -> None:
    delays = []
    while True:
        decision = decide(
            ErrorCode.MESSAGE_REFUSED,
            failures=0,
            refusals=len(delays),
            isolated=False,
            policy=Policy(attempts=attempts),
            jitter=0.5,
        )
        if decision.event is not RETRY:
            break
        delays.append(decision.delay)
    assert decision.event is GIVE_UP
    assert len(delays) + 1 == allowed(ErrorCode.MESSAGE_REFUSED, attempts)
    assert sum(delays) > 1500


@pytest.mark.parametrize("code", sorted(TRANSIENT))
def test_one_attempt_means_no_counted_retry(code: ErrorCode) -> None:
    policy = Policy(attempts=1)
    if code in BLAMELESS:
        return  # another one's fault, and counted otherwise
    assert decide(code, failures=0, isolated=True, policy=policy, jitter=0.0).event is GIVE_UP
    in_its_lane = decide(code, failures=0, isolated=False, policy=policy, jitter=0.0)
    # It is tried once more, alone: what happened so far may have been another job's doing.
    assert in_its_lane.event is (RETRY if code in SUSPECT else GIVE_UP)


@given(
    code=st.sampled_from(ErrorCode),
    failures=st.integers(0, 32_767),
    isolated=st.booleans(),
    policy=policies,
    jitter=jitters,
)
def test_delays_stay_within_their_bounds(
    code: ErrorCode, failures: int, isolated: bool, policy: Policy, jitter: float
) -> None:
    decision = decide(code, failures=failures, isolated=isolated, policy=policy, jitter=jitter, refusals=failures)
    if decision.event is not RETRY or (code in SUSPECT and not isolated):
        assert decision.delay == 0
        return
    assert code in TRANSIENT
    assert failures + 1 < allowed(code, policy.attempts)
    base = policy.backoff_seconds
    if code in ELSEWHERE:
        base = max(base, ELSEWHERE_SECONDS)
    full = min(base * 2**failures, MAX_DELAY_SECONDS)
    assert full / 2 <= decision.delay <= full <= 600


@pytest.mark.parametrize("attempts", [1, 2, 3, 20])
@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_ends_a_job_after_finitely_many_attempts(code: ErrorCode, attempts: int) -> None:
    taken = attempts_until_the_end(lambda _: code, Policy(attempts=attempts))
    if code in TRANSIENT:
        # One more for a suspect: the one in the bundle, which isn't counted.
        assert taken == allowed(code, attempts) + (code in SUSPECT)
    else:
        assert taken == 1


@pytest.mark.parametrize("attempts", [1, 2, 3, 20])
def test_the_worst_sequence_of_failures_ends_too(attempts: int) -> None:
    """Always the failure after which the job would live longest: one attempt in a bundle, then all that is allowed."""
    policy = Policy(attempts=attempts)

    @cache
    def longest(failures: int, isolated: bool, refusals: int) -> int:
        lives = []
        for code in ErrorCode:
            decision = decide(code, failures=failures, isolated=isolated, policy=policy, jitter=0.0, refusals=refusals)
            if decision.event is not RETRY:
                lives.append(1)
                continue
            in_a_row = refusals + 1 if code in BLAMELESS else 0
            after = (failures + decision.counts, decision.isolate, in_a_row)
            assert after != (failures, isolated, refusals), "nothing has changed"
            lives.append(1 + longest(*after))
        return max(lives)

    # Each of them after as many refusals as may be.
    assert longest(0, False, 0) == (attempts + 1) * REFUSED_ATTEMPTS


@given(codes=st.lists(st.sampled_from(sorted(set(ErrorCode) - BLAMELESS)), min_size=21, max_size=40))
@pytest.mark.parametrize("attempts", [1, 3, 20])
def test_any_sequence_of_failures_ends_within_the_policys_attempts_and_one(
    codes: list[ErrorCode], attempts: int
) -> None:
    assert attempts_until_the_end(lambda number: codes[number], Policy(attempts=attempts)) <= attempts + 1


def test_refusals_use_up_no_attempt_of_the_policy() -> None:
    """Nine by workers of another version, then memory runs out: that is the first of three."""
    refused = [ErrorCode.MESSAGE_REFUSED] * (REFUSED_ATTEMPTS - 1)
    codes = [*refused, ErrorCode.OUT_OF_MEMORY, *refused, ErrorCode.OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY]
    assert attempts_until_the_end(lambda number: codes[number], POLICY) == len(codes)


def allowed(code: ErrorCode, attempts: int) -> int:
    """How many attempts there may be of which each fails with this code and is counted with its like."""
    return REFUSED_ATTEMPTS if code in BLAMELESS else attempts


def attempts_until_the_end(code_of: Callable[[int], ErrorCode], policy: Policy) -> int:
    """Apply `decide` as the recorder does, with the code of each attempt (numbered from 0), until the job ends."""
    failures, isolated, refusals = 0, False, 0
    for number in range(1_000):
        code = code_of(number)
        decision = decide(code, failures=failures, isolated=isolated, policy=policy, jitter=0.5, refusals=refusals)
        failures += decision.counts
        assert failures <= policy.attempts
        refusals = refusals + 1 if code in BLAMELESS else 0
        if decision.event is not RETRY:
            return number + 1
        isolated = decision.isolate
    raise AssertionError("it goes on for ever")
