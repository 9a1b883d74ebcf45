"""Every state x every event against the database, generated from the table; and what the database itself refuses."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from inference_portal.accounts.models import Team
from inference_portal.jobs.models import Job
from inference_portal.jobs.services import job_cancel, job_transition
from inference_portal.jobs.states import FINAL, TRANSITIONS, Event, State

pytestmark = pytest.mark.django_db


@pytest.fixture
def team() -> Team:
    return Team.objects.create(name="team")


def make_job(team: Team, state: str, **fields: Any) -> Job:
    """Store a job as it looks in this state."""
    now = timezone.now()
    usual: dict[str, Any] = {"finished_at": now if state in FINAL else None}
    if state in (State.QUEUED, State.RUNNING):
        usual |= {"bundle": uuid4(), "lease_until": now + timedelta(minutes=1), "sent_at": now}
    if state == State.SUCCEEDED:
        usual |= {"result": b"[]"}
    job = {"team": team, "submitted_by": "test", "model": "m", "version": "1", "sha256": "ab", "pool": "cpu"}
    return Job.objects.create(**{**job, "rows": 1, "input": b"\0" * 4, "state": state, **usual, **fields})


@pytest.mark.parametrize("event", Event)
@pytest.mark.parametrize("state", State)
def test_an_event_changes_exactly_the_states_that_the_table_names(team: Team, state: State, event: Event) -> None:
    origins, goal = TRANSITIONS[event]
    job = make_job(team, state)
    fields: dict[str, Any] = {"result": b"[1]"} if goal == State.SUCCEEDED else {}
    if event in (Event.REPLAY, Event.RERUN):
        fields = {"finished_at": None}

    changed = job_transition(job_id=job.id, event=event, **fields)

    after = Job.objects.get(id=job.id)
    assert changed == (state in origins)
    assert after.state == (goal if changed else state)
    assert (after.finished_at is not None) == (after.state in FINAL)
    if changed and goal in FINAL:
        assert after.lease_until is None
    if not changed:
        assert {f.name: getattr(after, f.name) for f in Job._meta.fields} == {
            f.name: getattr(job, f.name) for f in Job._meta.fields
        }


@pytest.mark.parametrize("event", Event)
def test_a_message_about_another_attempt_changes_nothing(team: Team, event: Event) -> None:
    for state in State:
        job = make_job(team, state, attempt=2)
        for attempt in (1, 3):
            assert not job_transition(job_id=job.id, event=event, of_attempt=attempt)
        assert Job.objects.get(id=job.id).state == state


def test_a_retry_counts_the_attempt_and_makes_the_old_message_late(team: Team) -> None:
    job = make_job(team, State.RUNNING)
    assert job_transition(job_id=job.id, event=Event.RETRY, of_attempt=1, attempt=2, lease_until=None)
    assert not job_transition(job_id=job.id, event=Event.SUCCEED, of_attempt=1)
    assert Job.objects.values("state", "attempt").get(id=job.id) == {"state": State.RETRYING, "attempt": 2}


def test_an_event_for_an_unknown_job_changes_nothing(team: Team) -> None:
    make_job(team, State.QUEUED)
    assert not job_transition(job_id=uuid4(), event=Event.CANCEL)


def test_only_the_first_of_two_cancels_changes_something(team: Team) -> None:
    job = make_job(team, State.RETRYING)
    assert [job_cancel(job_id=job.id), job_cancel(job_id=job.id)] == [True, False]


@pytest.mark.parametrize(
    ("state", "fields"),
    [
        *((state, {"finished_at": None, "result": None}) for state in State if state in FINAL),
        *((state, {"finished_at": timezone.now(), "lease_until": None}) for state in State if state not in FINAL),
        *((state, {"result": b"[]"}) for state in State if state != State.SUCCEEDED),
        *((state, {"lease_until": timezone.now()}) for state in State if state in FINAL),
        ("lost", {}),
        ("", {}),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else ",".join(value) or "unknown",
)
def test_the_database_refuses_a_row_that_contradicts_itself(team: Team, state: str, fields: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_job(team, state, **fields)


def test_the_database_lets_one_job_of_a_key_be_under_way(team: Team) -> None:
    """Whatever two dispatchers have seen: the second one is refused."""
    keyed = {"ordering_key": "k"}
    make_job(team, State.RUNNING, **keyed)
    with pytest.raises(IntegrityError), transaction.atomic():
        make_job(team, State.QUEUED, **keyed)
    # Another key, another model, another team, no key, not under way, ended: all of these may be beside it.
    make_job(team, State.RUNNING, ordering_key="K")
    make_job(team, State.RUNNING, **keyed, model="n")
    make_job(Team.objects.create(name="other"), State.RUNNING, **keyed)
    make_job(team, State.RUNNING)
    make_job(team, State.RUNNING)
    make_job(team, State.QUEUED, **keyed, lease_until=None)
    for state in FINAL:
        make_job(team, state, **keyed)
        make_job(team, state, **keyed)
    waits = make_job(team, State.RETRYING, **keyed)
    with pytest.raises(IntegrityError), transaction.atomic():
        Job.objects.filter(id=waits.id).update(lease_until=timezone.now())


@pytest.mark.parametrize("state", State)
def test_the_database_takes_a_consistent_row_in_every_state(team: Team, state: State) -> None:
    assert Job.objects.filter(id=make_job(team, state).id).exists()
