"""Whose turn it is: fair between teams, by priority within one, and the jobs of a key one after the other."""

import threading
from collections import defaultdict
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role, Team
from inference_portal.jobs import dead_letters
from inference_portal.jobs.claims import Claim, mark_sent, release_claim
from inference_portal.jobs.models import Job, Priority
from inference_portal.jobs.record import record_result, record_started
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import FINAL, State
from inference_portal.jobs.sweep import expire
from inference_portal.jobs.turns import LEAST_PER_TEAM, Turns, waiting
from tests.integration import rows
from tests.integration.rows import (
    CPU,
    CPU_ALONE,
    GPU,
    GPU_ALONE,
    failure,
    in_threads,
    make_final,
    make_job,
    make_running,
    make_sent,
    make_team,
    new_job,
    success,
    take,
)
from workers.contract import ErrorCode, Run, Started
from workers.manifest import BUNDLE_ROWS

pytestmark = pytest.mark.django_db
ONE = {CPU: 1}


def taken(claims: list[Claim]) -> list[str]:
    return [job_id for claimed in claims for job_id in claimed.ids]


def ids(*jobs: Job) -> list[str]:
    return [str(job.id) for job in jobs]


def in_a_row(team: Team, count: int, **fields: Any) -> list[Job]:
    """Store due jobs, each a millisecond after the one before, all of them some time ago."""
    start = timezone.now() - timedelta(hours=1)
    jobs = [new_job(team, queued_at=start + timedelta(milliseconds=i), **fields) for i in range(count)]
    return Job.objects.bulk_create(jobs, batch_size=1000)


def rows_of(claims: list[Claim]) -> dict[str, int]:
    """How many rows of each team the claims hold."""
    found: dict[str, int] = defaultdict(int)
    for job in Job.objects.filter(id__in=taken(claims)).select_related("team"):
        found[job.team.name] += job.rows
    return found


def test_a_team_with_a_flood_holds_up_nobody() -> None:
    flood = in_a_row(make_team("flood"), 5000)
    late = [make_job(make_team(f"late {i}")) for i in range(3)]
    found = taken(take(ONE))
    # Everybody's first job, and only then more of the flood.
    assert found[:4] == ids(flood[0], *late)
    assert found[4:] == ids(*flood[1 : len(found) - 3])
    assert len(found) > len(late) + 16


def test_room_for_one_bundle_goes_round_when_releases_differ() -> None:
    for version in "123":
        in_a_row(make_team(f"team {version}"), 20, version=version)
    turns = Turns()
    order = []
    for _ in range(9):
        (claimed,) = take(ONE, turns)
        order.append(claimed.version)
        release_claim(claimed)  # so that each team has the same to send as before
    assert sorted(order[:3]) == sorted(order[3:6]) == sorted(order[6:]) == ["1", "2", "3"]


def test_who_has_not_been_served_yet_goes_before_who_was() -> None:
    one, other = make_team("one"), make_team("other")
    in_a_row(one, 3, version="1")
    turns = Turns()
    (first,) = take(ONE, turns)
    release_claim(first)
    make_job(other, version="2")
    assert [claimed.version for claimed in take(ONE, turns)] == ["2"]


def test_rows_count_and_not_jobs() -> None:
    in_a_row(make_team("large"), 300, rows=10)
    in_a_row(make_team("small"), 300, rows=1)
    found = rows_of(take(ONE))
    assert sum(found.values()) > BUNDLE_ROWS - 10
    assert abs(found["large"] - found["small"]) <= 10


def test_a_high_priority_is_a_teams_own_affair() -> None:
    urgent, calm = make_team("urgent"), make_team("calm")
    in_a_row(urgent, 300, priority=Priority.HIGH)
    patient = make_job(calm, priority=Priority.LOW)
    assert str(patient.id) in taken(take(ONE))


def test_within_a_team_priority_goes_first_and_then_who_came_first(team: Team) -> None:
    now = timezone.now()
    places = [
        (Priority.LOW, 9),
        (Priority.HIGH, 1),
        (Priority.NORMAL, 3),
        (Priority.HIGH, 2),
        (Priority.NORMAL, 8),
        (Priority.LOW, 4),
    ]
    jobs = [make_job(team, priority=p, queued_at=now - timedelta(minutes=ago)) for p, ago in places]
    assert taken(take(ONE)) == ids(*(jobs[i] for i in (3, 1, 4, 2, 0, 5)))


def test_who_came_at_the_same_instant_goes_in_one_fixed_order(team: Team) -> None:
    now = timezone.now()
    jobs = [make_job(team, queued_at=now) for _ in range(20)]
    assert taken(take(ONE)) == sorted(ids(*jobs))


def test_a_retry_keeps_its_place(team: Team) -> None:
    now = timezone.now()
    later = make_job(team)
    again = make_job(
        team, state=State.RETRYING, attempt=2, queued_at=now - timedelta(hours=1), not_before=now - timedelta(seconds=1)
    )
    assert taken(take(ONE)) == ids(again, later)


# --- Ordering keys ---


def keyed(team: Team, count: int = 3, **fields: Any) -> list[Job]:
    return in_a_row(team, count, ordering_key="k", **fields)


def test_of_a_key_only_the_first_is_due(team: Team) -> None:
    first, *_ = keyed(team)
    free = in_a_row(team, 2)
    assert set(taken(take())) == set(ids(first, *free))
    assert take() == []


def test_the_priority_of_a_later_job_of_a_key_does_not_bring_it_forward(team: Team) -> None:
    start = timezone.now() - timedelta(hours=1)
    first = make_job(team, ordering_key="k", priority=Priority.LOW, queued_at=start)
    make_job(team, ordering_key="k", priority=Priority.HIGH, queued_at=start + timedelta(seconds=1))
    assert taken(take()) == ids(first)


def test_of_jobs_of_a_key_that_came_at_the_same_instant_exactly_one_is_due(team: Team) -> None:
    now = timezone.now()
    jobs = [make_job(team, ordering_key="k", queued_at=now) for _ in range(5)]
    assert taken(take()) == sorted(ids(*jobs))[:1]


def test_another_key_model_or_team_is_not_held_up(team: Team) -> None:
    start = timezone.now() - timedelta(hours=1)
    others = [{"ordering_key": "K"}, {"ordering_key": "k "}, {"model": "other"}, {"team": make_team("other")}]
    jobs = [make_job(**{"team": team, "ordering_key": "k", "queued_at": start, **other}) for other in others]
    jobs.append(make_job(team, ordering_key="k", queued_at=start))
    assert set(taken(take())) == set(ids(*jobs))


def test_a_key_holds_across_versions_pools_and_lanes(team: Team) -> None:
    start = timezone.now() - timedelta(hours=1)
    first = make_job(team, ordering_key="k", queued_at=start, isolated=True, state=State.RETRYING, attempt=2)
    for changed in ({"version": "2"}, {"pool": "gpu"}, {}):
        make_job(team, ordering_key="k", **changed)
    assert taken(take()) == ids(first)


SITUATIONS: dict[str, Callable[[Team], Job]] = {
    "claimed": lambda team: make_sent(team, ordering_key="k", sent_at=None),
    "sent": lambda team: make_sent(team, ordering_key="k"),
    "running": lambda team: make_running(team, ordering_key="k"),
    "sent, and came later": lambda team: make_sent(
        team, ordering_key="k", queued_at=timezone.now() + timedelta(hours=1)
    ),
    "waiting for its retry": lambda team: make_job(
        team,
        ordering_key="k",
        state=State.RETRYING,
        queued_at=timezone.now() - timedelta(hours=2),
        not_before=timezone.now() + timedelta(hours=1),
    ),
    "too late and not swept yet": lambda team: make_job(
        team,
        ordering_key="k",
        queued_at=timezone.now() - timedelta(hours=2),
        expires_at=timezone.now() - timedelta(hours=1),
    ),
}


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_next_of_a_key_waits_while_one_is(team: Team, situation: str) -> None:
    ahead = SITUATIONS[situation](team)
    keyed(team)
    assert take() == []
    assert job_cancel(job_id=ahead.id)
    assert len(taken(take())) == 1


def test_the_next_of_a_key_goes_once_the_one_before_has_ended_however_it_ended(team: Team) -> None:
    jobs = keyed(team, 7)
    order = []

    def one() -> Job:
        (claimed,) = take()
        (job_id,) = claimed.ids
        mark_sent(claimed)
        order.append(job_id)
        return Job.objects.get(id=job_id)

    record_result(rows.result(success(one())))
    record_result(rows.result(failure(one(), ErrorCode.BAD_DATA)))
    job_cancel(job_id=one().id)
    record_result(rows.result(failure(one(), ErrorCode.EXPIRED)))
    Job.objects.filter(id=jobs[4].id).update(expires_at=timezone.now())
    assert take() == []
    assert expire() == 1
    Job.objects.filter(id=jobs[5].id).update(failures=2, isolated=True)
    record_result(rows.result(failure(one(), ErrorCode.WORKER_LOST)))
    assert Job.objects.get(id=jobs[5].id).state == State.DEAD_LETTERED
    record_result(rows.result(success(one())))
    assert order == ids(*jobs[:4], *jobs[5:])
    assert {job.state for job in Job.objects.all()} == FINAL


def test_a_retry_goes_before_those_that_came_after_it(team: Team) -> None:
    first, second, _ = keyed(team)
    (claimed,) = take()
    record_result(rows.result(failure(first, ErrorCode.OUT_OF_MEMORY)))
    assert take() == []
    Job.objects.filter(id=first.id).update(not_before=timezone.now())
    (again,) = take()
    assert [(item.id, item.attempt) for item in again.jobs] == [(str(first.id), 2)]
    record_result(rows.result(success(first, attempt=2)))
    assert taken(take()) == ids(second)


def test_a_suspect_is_tried_alone_before_those_that_came_after_it(team: Team) -> None:
    first, second, _ = keyed(team)
    take()
    record_result(rows.result(failure(first, ErrorCode.WORKER_LOST)))
    (again,) = take()
    assert (again.lane, again.ids) == (CPU_ALONE, ids(first))
    assert take() == []
    record_result(rows.result(success(first, attempt=2)))
    assert [(claimed.lane, claimed.ids) for claimed in take()] == [(CPU, ids(second))]


def test_a_dead_letter_that_is_replayed_goes_after_those_that_wait(team: Team) -> None:
    dead = make_final(team, State.DEAD_LETTERED, ordering_key="k", queued_at=timezone.now() - timedelta(days=1))
    jobs = keyed(team, 2)
    operator = Caller(team_id=team.id, role=Role.OPERATOR, name="op")
    dead_letters.replay(job_id=dead.id, caller=operator)
    order = []
    while claims := take():
        order += taken(claims)
        record_result(rows.result(*map(success, Job.objects.filter(id__in=taken(claims)))))
    assert order == ids(*jobs, dead)


def test_a_start_or_a_second_claim_keeps_a_key_to_one(team: Team) -> None:
    first, *_ = keyed(team)
    (claimed,) = take()
    run = Run("cpu@host/1", "host", "", timezone.now().timestamp())
    record_started(Started(str(claimed.bundle), run, ((str(first.id), 1),)))
    release_claim(claimed)
    assert take() == []
    assert Job.objects.filter(ordering_key="k", lease_until__isnull=False).count() == 1


@pytest.mark.django_db(transaction=True)
def test_dispatchers_at_once_never_have_two_of_a_key_under_way(team: Team) -> None:
    """On PostgreSQL they really are at once. Each key's jobs go in their order, too."""
    keys = "abcde"
    for key in keys:
        in_a_row(team, 12, ordering_key=key)
    lock, under_way, order = threading.Lock(), set[str](), defaultdict[str, list[str]](list)
    key_of = {str(job.id): job.ordering_key for job in Job.objects.all()}

    def work() -> None:
        turns = Turns()
        while Job.objects.filter(finished_at=None).exists():
            for claimed in take({CPU: 2}, turns):
                for job_id in claimed.ids:
                    with lock:
                        assert key_of[job_id] not in under_way, "two of one key are under way"
                        under_way.add(key_of[job_id])
                        order[key_of[job_id]].append(job_id)
                mark_sent(claimed)
                with lock:
                    under_way.difference_update(key_of[job_id] for job_id in claimed.ids)
                record_result(rows.result(*map(success, Job.objects.filter(id__in=claimed.ids))))

    in_threads(*[work] * 4)
    assert Job.objects.filter(state=State.SUCCEEDED).count() == 60
    for key in keys:
        assert order[key] == ids(*Job.objects.filter(ordering_key=key).order_by("queued_at"))


@pytest.mark.django_db(transaction=True)
def test_a_dispatcher_that_saw_the_first_of_a_key_too_late_is_stopped_by_the_database(
    team: Team, postgresql: None
) -> None:
    """The portal inserted the first job before the second one, and committed after it."""
    now = timezone.now()
    second = make_job(team, ordering_key="k", queued_at=now)
    claimed, committed, seen = threading.Event(), threading.Event(), dict[str, list[str]]()

    def slow_dispatcher() -> None:
        with transaction.atomic():
            seen["slow"] = taken(take())
            claimed.set()
            # Until the other one waits for this transaction, because of the constraint.
            assert committed.wait(10)
            until_somebody_waits_for_a_lock()

    def portal_and_other_dispatcher() -> None:
        assert claimed.wait(10)
        make_job(team, ordering_key="k", queued_at=now - timedelta(milliseconds=1))
        committed.set()
        seen["other"] = taken(take())

    in_threads(slow_dispatcher, portal_and_other_dispatcher)
    assert seen == {"slow": ids(second), "other": []}
    assert Job.objects.filter(ordering_key="k", lease_until__isnull=False).count() == 1
    assert take() == []
    record_result(rows.result(success(second)))
    assert len(taken(take())) == 1


def until_somebody_waits_for_a_lock() -> None:
    pause = threading.Event()
    for _ in range(500):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        pause.wait(0.01)
    raise AssertionError("nobody waits")


def test_who_is_first_of_a_key_is_looked_up_in_its_index_however_many_wait(team: Team) -> None:
    keyed(team, 1000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    with CaptureQueriesContext(connection) as captured:
        take(ONE)
    (sql,) = [query["sql"] for query in captured if "NOT EXISTS" in query["sql"]]
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {'' if connection.vendor == 'postgresql' else 'QUERY PLAN '}{sql}")
        plan = "\n".join(str(row[-1]) for row in cursor.fetchall())
    assert "job_ordered" in plan, plan


# --- Lanes ---


def test_a_lane_gets_only_what_is_its_own(team: Team) -> None:
    jobs = {
        CPU: make_job(team),
        GPU: make_job(team, pool="gpu"),
        CPU_ALONE: make_job(team, isolated=True, attempt=2),
        GPU_ALONE: make_job(team, pool="gpu", isolated=True, attempt=2),
    }
    for lane, job in jobs.items():
        assert [(claimed.lane, claimed.ids) for claimed in take({lane: 9})] == [(lane, ids(job))]
    assert take() == []


def test_suspects_go_one_by_one_whatever_their_size(team: Team) -> None:
    suspects = in_a_row(team, 4, isolated=True, attempt=2)
    claims = take({CPU_ALONE: 3})
    assert [claimed.ids for claimed in claims] == [[i] for i in ids(*suspects[:3])]
    assert len({claimed.bundle for claimed in claims}) == 3


def test_the_isolation_lane_is_fair_too() -> None:
    in_a_row(make_team("flood"), 50, isolated=True, attempt=2)
    other = make_job(make_team("other"), isolated=True, attempt=2)
    turns = Turns()
    found = [taken(take({CPU_ALONE: 1}, turns)) for _ in range(2)]
    assert ids(other) in found


def test_waiting_lists_each_lane_with_the_teams_whose_jobs_wait_there(django_assert_num_queries: Any) -> None:
    one, two, three = make_team("one"), make_team("two"), make_team("three")
    in_a_row(one, 30)
    make_job(two, state=State.RETRYING, attempt=2, not_before=timezone.now() + timedelta(hours=1))
    make_job(one, pool="gpu")
    make_job(two, isolated=True, attempt=2)
    make_job(one, isolated=True, attempt=2)
    make_sent(three)
    make_running(three, pool="gpu", isolated=True)
    for state in FINAL:
        make_final(three, state)
    with django_assert_num_queries(1):
        found = waiting()
    assert {lane: sorted(teams) for lane, teams in found.items()} == {
        CPU: sorted([one.id, two.id]),
        GPU: [one.id],
        CPU_ALONE: sorted([one.id, two.id]),
    }


def test_nothing_waits_in_an_empty_system(team: Team) -> None:
    make_sent(team)
    assert waiting() == {}


def test_a_claim_needs_a_query_for_each_team_and_bundle_and_not_for_each_job(
    django_assert_max_num_queries: Any,
) -> None:
    for i in range(3):
        in_a_row(make_team(f"team {i}"), 300)
    with django_assert_max_num_queries(10):
        assert len(taken(take({CPU: 2}))) == 2 * BUNDLE_ROWS


def test_a_claim_tells_whether_it_left_some_for_which_there_was_room(team: Team) -> None:
    turns = Turns()
    make_job(team, rows=BUNDLE_ROWS)
    take({CPU: 4}, turns)
    assert not turns.left_some
    # So many rows a job are expected that no more than these few are looked up.
    in_a_row(team, 40)
    assert len(taken(take({CPU: 4}, turns))) == LEAST_PER_TEAM
    assert turns.left_some
    assert len(taken(take({CPU: 4}, turns))) == 40 - LEAST_PER_TEAM
    assert not turns.left_some
    # Where there is no room, somebody will say when there is.
    in_a_row(team, 2 * BUNDLE_ROWS)
    take({CPU: 1}, turns)
    assert not turns.left_some
