"""The table of a batch's states."""

from inference_portal.batches.states import FINAL, OPEN, TRANSITIONS, Event, State, diagram, sources, target


def test_every_event_leads_somewhere_and_every_state_is_reached() -> None:
    assert set(TRANSITIONS) == set(Event)
    assert {target(event) for event in Event} | {State.QUEUED} == set(State)


def test_only_a_person_leads_out_of_an_end() -> None:
    assert {event for event in Event if sources(event) & FINAL} == {Event.RESUME, Event.RERUN}
    assert all(sources(event) <= FINAL or sources(event) <= OPEN for event in Event)


def test_every_open_state_can_be_ended() -> None:
    assert sources(Event.CANCEL) == sources(Event.FAIL) == OPEN


def test_what_has_succeeded_has_nothing_to_go_on_with() -> None:
    assert State.SUCCEEDED not in sources(Event.RESUME)


def test_the_diagram_shows_each_change() -> None:
    lines = diagram().splitlines()
    assert "    running --> queued: anew" in lines
    assert "    partial --> [*]" in lines
    assert len(lines) == 2 + sum(len(origins - {goal}) for origins, goal in TRANSITIONS.values()) + len(FINAL)
