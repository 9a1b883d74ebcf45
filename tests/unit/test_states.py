"""The table of states; its effect on the database is in tests/integration/test_states.py."""

import pytest

from inference_portal.jobs.states import FINAL, IN_FLIGHT, OPEN, TRANSITIONS, Event, State, diagram, sources, target


def test_every_state_is_either_open_or_final() -> None:
    assert set(State) == OPEN | FINAL
    assert not OPEN & FINAL
    assert IN_FLIGHT <= OPEN


def test_every_event_is_in_the_table() -> None:
    assert set(TRANSITIONS) == set(Event)
    assert {(event, sources(event), target(event)) for event in Event} == {
        (event, origins, goal) for event, (origins, goal) in TRANSITIONS.items()
    }


def test_only_a_replay_or_a_rerun_leads_out_of_a_final_state_and_nothing_out_of_success() -> None:
    assert {(event, frozenset(sources(event) & FINAL)) for event in Event if sources(event) & FINAL} == {
        (Event.REPLAY, frozenset({State.DEAD_LETTERED})),
        (Event.RERUN, FINAL - {State.SUCCEEDED}),
    }
    assert target(Event.REPLAY) is target(Event.RERUN) is State.QUEUED


def test_what_a_worker_has_started_does_not_expire() -> None:
    assert State.RUNNING not in sources(Event.EXPIRE)
    assert sources(Event.EXPIRE) | {State.RUNNING} == OPEN


@pytest.mark.parametrize("state", OPEN)
def test_every_open_state_can_be_cancelled_and_can_end_otherwise(state: State) -> None:
    assert state in sources(Event.CANCEL)
    reached, seen = {state}, set[State]()
    while new := reached - seen:
        seen |= new
        reached |= {target(e) for e in Event if e is not Event.CANCEL and sources(e) & new}
    assert reached >= FINAL - {State.CANCELLED}


def test_every_state_can_be_reached_from_queued() -> None:
    reached = {State.QUEUED}
    for _ in State:
        reached |= {target(event) for event in Event if sources(event) & reached}
    assert reached == set(State)


def test_the_diagram_shows_every_transition_of_the_table() -> None:
    lines = [line.strip() for line in diagram().splitlines()]
    assert lines[0] == "stateDiagram-v2"
    for event, (origins, goal) in TRANSITIONS.items():
        for origin in origins - {goal}:
            assert f"{origin} --> {goal}: {event}" in lines
    assert all(any(f"{state} " in f"{line} " for line in lines) for state in State)
    assert all(any(line.endswith(f": {event}") for line in lines) for event in Event)
    assert {line for line in lines if line.endswith("[*]")} == {f"{state} --> [*]" for state in FINAL}
    assert len(lines) == len(set(lines))
