"""What follows a try of a delivery: pure."""

from datetime import UTC, datetime

import pytest

from inference_portal.deliveries.breaker import MOST_SECONDS, closed_seconds
from inference_portal.deliveries.retry import DELAYS, GIVE_UP_AFTER, Answer, decide, delay_after, read_retry_after
from inference_portal.deliveries.states import DONE, OPEN, TRANSITIONS, Event, State

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_a_success(status: int) -> None:
    assert decide(Answer(status=status), tries=1, age=0, jitter=0.5).event is Event.SUCCEED


@pytest.mark.parametrize("status", [None, 100, 301, 302, 400, 404, 429, 500, 503])
def test_anything_else_is_tried_again(status: int | None) -> None:
    decision = decide(Answer(status=status), tries=1, age=0, jitter=0.5)
    assert (decision.event, decision.delay, decision.disables) == (Event.RETRY, DELAYS[0], False)


def test_410_ends_it_and_turns_the_endpoint_off() -> None:
    decision = decide(Answer(status=410), tries=1, age=0, jitter=0.5)
    assert (decision.event, decision.disables) == (Event.GIVE_UP, True)


def test_an_address_that_may_not_be_called_is_not_tried_again() -> None:
    assert decide(Answer(error="private", is_final=True), tries=1, age=0, jitter=0.5).event is Event.GIVE_UP


def test_all_tries_together_take_about_three_days() -> None:
    for jitter in (0.0, 0.5, 1.0):
        age, tries = 0.0, 1
        while (decision := decide(Answer(status=500), tries=tries, age=age, jitter=jitter)).event is Event.RETRY:
            age += decision.delay
            tries += 1
        assert GIVE_UP_AFTER - 16 * 3600 < age <= GIVE_UP_AFTER
        assert 12 <= tries <= 17


def test_the_delays_grow_and_are_spread() -> None:
    assert [delay_after(n, 0.5) for n in range(1, 12)] == sorted(delay_after(n, 0.5) for n in range(1, 12))
    assert delay_after(3, 0.0) == pytest.approx(96) and delay_after(3, 1.0) == pytest.approx(144)


def test_a_receivers_wish_makes_it_later_never_sooner_and_not_for_ever() -> None:
    assert delay_after(1, 0.5, 600) == 600
    assert delay_after(5, 0.5, 1) == DELAYS[4]
    assert delay_after(1, 0.5, 1e9) == 86_400


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 5 ", 5.0),
        ("Sat, 31 Jan 2026 12:01:00 GMT", 60.0),
        ("Sat, 31 Jan 2026 11:00:00 GMT", 0.0),
        ("-5", None),
        ("1e9", None),
        ("soon", None),
        ("99999999999999999999", None),
        ("", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str, seconds: float | None) -> None:
    assert read_retry_after(text, NOW) == seconds


def test_a_breaker_closes_after_some_failures_for_ever_longer() -> None:
    assert [closed_seconds(n) for n in range(1, 8)] == [0, 0, 0, 0, 10, 20, 40]
    assert closed_seconds(10**6) == MOST_SECONDS


def test_the_states_are_those_of_the_table() -> None:
    assert frozenset(State) == OPEN | DONE
    assert {goal for _, goal in TRANSITIONS.values()} == frozenset(State)
    assert all(origins for origins, _ in TRANSITIONS.values())
