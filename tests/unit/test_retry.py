"""The decision after a failed attempt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_portal.jobs.retry import MAX_DELAY_SECONDS, TRANSIENT, Decision, decide
from inference_portal.jobs.states import Event
from workers.contract import ErrorCode
from workers.manifest import Policy

POLICY = Policy(attempts=3, backoff_seconds=2)


@pytest.mark.parametrize(
    ("code", "events"),
    [
        (ErrorCode.BAD_DATA, [Event.FAIL, Event.FAIL, Event.FAIL, Event.FAIL]),
        (ErrorCode.MODEL_ERROR, [Event.FAIL, Event.FAIL, Event.FAIL, Event.FAIL]),
        (ErrorCode.MODEL_UNAVAILABLE, [Event.RETRY, Event.RETRY, Event.GIVE_UP, Event.GIVE_UP]),
        (ErrorCode.OUT_OF_MEMORY, [Event.RETRY, Event.RETRY, Event.GIVE_UP, Event.GIVE_UP]),
        (ErrorCode.LEASE_EXPIRED, [Event.RETRY, Event.RETRY, Event.GIVE_UP, Event.GIVE_UP]),
    ],
)
def test_each_code_and_attempt_has_its_event(code: ErrorCode, events: list[Event]) -> None:
    assert [decide(code, attempt, POLICY, 0.5).event for attempt in (1, 2, 3, 4)] == events


def test_every_code_of_the_contract_is_decided_in_the_table_above() -> None:
    (mark,) = test_each_code_and_attempt_has_its_event.pytestmark  # type: ignore[attr-defined]
    assert {code for code, _ in mark.args[1]} == set(ErrorCode)


@pytest.mark.parametrize(("attempt", "jitter", "delay"), [(1, 0.0, 1.0), (1, 1.0, 2.0), (2, 0.0, 2.0), (2, 0.5, 3.0)])
def test_the_delay_doubles_and_half_of_it_is_random(attempt: int, jitter: float, delay: float) -> None:
    assert decide(ErrorCode.LEASE_EXPIRED, attempt, POLICY, jitter) == Decision(Event.RETRY, delay)


def test_one_attempt_means_no_retry() -> None:
    assert decide(ErrorCode.LEASE_EXPIRED, 1, Policy(attempts=1), 0.0).event is Event.GIVE_UP


@given(
    code=st.sampled_from(ErrorCode),
    attempt=st.integers(1, 32_767),
    policy=st.builds(Policy, attempts=st.integers(1, 20), backoff_seconds=st.floats(0, 3600)),
    jitter=st.floats(0, 1, exclude_max=True),
)
def test_delays_stay_within_their_bounds(code: ErrorCode, attempt: int, policy: Policy, jitter: float) -> None:
    decision = decide(code, attempt, policy, jitter)
    if decision.event is not Event.RETRY:
        assert decision.delay == 0
        return
    assert code in TRANSIENT
    assert attempt < policy.attempts
    full = min(policy.backoff_seconds * 2 ** (attempt - 1), MAX_DELAY_SECONDS)
    assert full / 2 <= decision.delay <= full
