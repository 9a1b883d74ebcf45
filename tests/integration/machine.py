"""A machine that does to a few jobs, in any order, whatever can happen to them, and checks the rows after each step.

Everything is the real thing: the functions that the processes call, on a real database. What the broker does is played
here: of all bundles that were ever claimed any may be delivered at any time, twice, late, out of order, or never.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.jobs import dead_letters
from inference_portal.jobs.burial import bury
from inference_portal.jobs.claims import Claim, claim, mark_sent, release_claim
from inference_portal.jobs.intake import Intake
from inference_portal.jobs.models import Job, Priority
from inference_portal.jobs.record import record_result, record_started, refusals, release_policy
from inference_portal.jobs.rerun import NotWaiting, rerun
from inference_portal.jobs.retention import purge
from inference_portal.jobs.retry import SUSPECT, Decision, decide
from inference_portal.jobs.services import job_cancel
from inference_portal.jobs.states import FINAL, IN_FLIGHT, OPEN, Event, State, sources, target
from inference_portal.jobs.sweep import expire, sweep
from inference_portal.jobs.turns import Turns
from inference_portal.store import model_store
from tests.integration import rows
from workers import topology
from workers.contract import INFER, Bundle, BundleResult, ErrorCode, Failure, Outcome, Run, Started
from workers.formats import Invalid

# At once, and in one sequence.
MOST_OPEN, MOST_JOBS = 6, 20
LONG = timedelta(hours=2)
RUN = Run(worker="cpu@host/7", host="host", device="cpu", started=1.7e9, finished=1.7e9 + 1)
OUTCOMES = (Event.SUCCEED, Event.FAIL, Event.RETRY, Event.GIVE_UP, Event.EXPIRE)
SUCCESS = Decision(Event.SUCCEED, counts=False)

_COLUMNS = (
    "id, team_id, model, pool, ordering_key, queued_at, state, attempt, failures, isolated, lease_until, bundle,"
    " sent_at, not_before, expires_at, finished_at, error_code, worker, discarded_at, purged_at"
)


class Row(NamedTuple):
    """A job as the database has it now."""

    id: UUID
    team: int
    model: str
    pool: str
    key: str
    queued_at: Any
    state: State
    attempt: int
    failures: int
    isolated: bool
    lease_until: Any
    bundle: Any
    sent_at: Any
    not_before: Any
    expires_at: Any
    finished_at: Any
    error_code: str
    worker: str
    discarded_at: Any
    purged_at: Any
    has_result: bool


def read() -> dict[UUID, Row]:
    """Return all jobs."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_COLUMNS}, result IS NOT NULL FROM jobs_job ORDER BY id")
        found = [Row(*values) for values in cursor.fetchall()]
    # SQLite knows neither ids nor truth.
    found = [
        row._replace(
            id=UUID(str(row.id)), state=State(row.state), isolated=bool(row.isolated), has_result=bool(row.has_result)
        )
        for row in found
    ]
    return {row.id: row for row in found}


def read_attempts() -> dict[UUID, list[int]]:
    """Return the numbers of the failed attempts of each job that has some."""
    found: dict[UUID, list[int]] = {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT job_id, number FROM jobs_attempt ORDER BY number")
        for job_id, number in cursor.fetchall():
            found.setdefault(UUID(str(job_id)), []).append(number)
    return found


# PostgreSQL keeps what was rolled back until it is swept up: after a thousand sequences most of the time went into
# reading past it.
VACUUM_AFTER = 20
# Of claims the latest for 0; of jobs the oldest. What is old is rarely of interest, and what is late must be harmless.
which = st.sampled_from([0, 0, 0, 1, 1, 2, 3, 4, 5, 7, 11])
# What becomes of the jobs of a bundle, in turn; None is a success.
Codes = tuple[ErrorCode | None, ...]
_LOST, _OUT = ErrorCode.WORKER_LOST, ErrorCode.OUT_OF_MEMORY
codes = st.sampled_from(
    [*((code,) for code in (None, *ErrorCode, None, *SUSPECT)), (None, _LOST), (_OUT, ErrorCode.BAD_DATA, None)]
)
rooms = st.sampled_from([rows.ROOM, {rows.CPU: 1}, {rows.CPU_ALONE: 1}, {rows.CPU: 1, rows.GPU: 1, rows.CPU_ALONE: 2}])


class Machine(RuleBasedStateMachine):
    """A few jobs of two teams. One transaction that is rolled back at the end: the next sequence finds nothing."""

    # Set by the test: they exist all the time, as does a worker for both lanes of the pool `cpu` and for no other.
    teams: tuple[int, ...] = ()
    # Counts what happened to all machines.
    happened: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.before: dict[UUID, Row] = {}
        self.claims: list[Claim] = []
        # Their bundles for which some result has come.
        self.answered: set[UUID] = set()
        self.new = 0
        self.dispatchers = (Turns(), Turns())
        self.intake = Intake()
        # How often each job has come to an end, by how often it was replayed or rerun.
        self.ends: Counter[tuple[UUID, int]] = Counter()
        self.replays: Counter[UUID] = Counter()
        # Attempts that were over before they began: cancelled or expired, and then rerun.
        self.dropped: dict[UUID, list[int]] = {}
        self.in_order = True
        self._happened: frozenset[Event] = frozenset()
        self._expected: dict[UUID, Decision | None] = {}
        self._transaction = transaction.atomic()
        self._transaction.__enter__()

    def teardown(self) -> None:
        """Let everything come to an end, and forget it."""
        try:
            if self.in_order:
                self.everything_ends()
        finally:
            transaction.set_rollback(True)
            self._transaction.__exit__(None, None, None)
        self.happened["sequences"] += 1
        if connection.vendor == "postgresql" and self.happened["sequences"] % VACUUM_AFTER == 0:
            with connection.cursor() as cursor:
                cursor.execute("VACUUM jobs_job, jobs_attempt")

    # --- What can happen ---

    @initialize(count=st.integers(1, 3))
    def some_are_there(self, count: int) -> None:
        for number in range(count):
            self.accept(0, "k" if number else "", "cpu", Priority.NORMAL, False)

    @precondition(lambda self: len(self.open) < MOST_OPEN and len(self.before) < MOST_JOBS)
    @rule(
        team=st.integers(0, 1),
        key=st.sampled_from(["", "", "k", "l"]),
        pool=st.sampled_from(["cpu", "cpu", "gpu"]),
        priority=st.sampled_from(Priority),
        mortal=st.booleans(),
    )
    def accept(self, team: int, key: str, pool: str, priority: Priority, mortal: bool) -> None:
        self.can_happen()
        until = timezone.now() + LONG if mortal else None
        self.new += 1
        self.intake.add(
            Job(
                # The same ones in each sequence, so that hypothesis can repeat what it has found.
                id=UUID(int=len(self.before) + self.new),
                team_id=self.teams[team],
                submitted_by="test",
                model="wine",
                version="1",
                sha256=model_store().get("wine", "1").manifest.sha256,
                pool=pool,
                rows=1,
                input=rows.ONE_ROW,
                reply={},
                priority=priority,
                ordering_key=key,
                expires_at=until,
            )
        )

    @rule(dispatcher=st.integers(0, 1), room=rooms, confirmed=st.booleans())
    def dispatch(self, dispatcher: int, room: dict[Any, int], confirmed: bool) -> None:
        self.send(dispatcher, room, confirmed)

    def send(self, dispatcher: int, room: dict[Any, int], confirmed: bool) -> None:
        self.can_happen(Event.DISPATCH)
        claims = claim(rows.shares(room), self.dispatchers[dispatcher])
        now = timezone.now()
        for claimed in sorted(claims, key=lambda claimed: claimed.ids):
            self.claims.append(claimed)
            assert len(claimed.jobs) == 1 or not claimed.lane.isolated
            for item in claimed.jobs:
                self.check_that_it_was_due(self.before[UUID(item.id)], item.attempt, claimed, now)
            if confirmed:
                mark_sent(claimed)

    @rule(codes=codes, announced=st.booleans())
    def work_goes_on(self, codes: Codes, announced: bool) -> None:
        """As usual: a bundle's result comes, in the order in which they were claimed; without one, one is claimed."""
        if len(self.answered) == len(self.claims):
            self.send(0, rows.ROOM, confirmed=True)
            self.every_row_is_in_order()
        claimed = next((claimed for claimed in self.claims if claimed.bundle not in self.answered), None)
        if claimed is not None:
            if announced:
                self.start(claimed)
                self.every_row_is_in_order()
            self.answer(claimed, codes)

    @precondition(lambda self: self.open)
    @rule(times=st.integers(1, 4))
    def every_worker_dies(self, times: int) -> None:
        """So often, of whatever it is given: of a poison in the end."""
        for _ in range(times):
            self.time_passes()
            self.every_row_is_in_order()
            self.work_goes_on((_LOST,), False)
            self.every_row_is_in_order()

    @precondition(lambda self: self.claims)
    @rule(which=which, codes=codes)
    def a_result_comes(self, which: int, codes: Codes) -> None:
        self.answer(self.chosen_claim(which), codes, backwards=which % 2 == 1)

    @precondition(lambda self: self.claims)
    @rule(which=which, what=st.sampled_from(["start", "start", "death", "confirm", "no confirm"]))
    def another_message_comes(self, which: int, what: str) -> None:
        claimed = self.chosen_claim(which)
        if what == "start":
            self.start(claimed)
        elif what == "death":
            self.can_happen(Event.RETRY, Event.GIVE_UP)
            self.expect([outcome(item.id, item.attempt, ErrorCode.WORKER_LOST) for item in claimed.jobs])
            bury(*dead_bundle(claimed))
        else:
            self.can_happen()
            for item in claimed.jobs:
                row = self.before[UUID(item.id)]
                if str(row.bundle) not in (str(claimed.bundle), claimed.bundle.hex) or row.sent_at is not None:
                    self._expected[row.id] = None
            (mark_sent if what == "confirm" else release_claim)(claimed)

    def start(self, claimed: Claim) -> None:
        self.can_happen(Event.START)
        record_started(Started(str(claimed.bundle), RUN, tuple((item.id, item.attempt) for item in claimed.jobs)))

    def answer(self, claimed: Claim, codes: Codes, backwards: bool = False) -> None:
        self.can_happen(*OUTCOMES)
        self.answered.add(claimed.bundle)
        outcomes = [
            outcome(item.id, item.attempt, codes[i % len(codes)])
            for i, item in enumerate(reversed(claimed.jobs) if backwards else claimed.jobs)
        ]
        self.expect(outcomes)
        record_result(BundleResult(str(claimed.bundle), RUN, tuple(outcomes)))

    @precondition(lambda self: self.some(lambda row: row.lease_until is not None))
    @rule(which=which, whose=st.sampled_from(["one", "all", "all after a restart"]))
    def leases_are_over(self, which: int, whose: str) -> None:
        self.can_happen(Event.RETRY, Event.GIVE_UP)
        leased = Job.objects.filter(lease_until__isnull=False)
        if whose == "all after a restart":
            sweep(everything=True)
            assert not leased.exists()
            return
        if whose == "one":
            leased = leased.filter(id=self.chosen_job(which))
        leased.update(lease_until=timezone.now() - LONG)
        sweep()

    @precondition(lambda self: self.some(lambda row: row.state is State.RETRYING))
    @rule()
    def backoffs_are_over(self) -> None:
        self.time_passes()

    def time_passes(self) -> None:
        self.can_happen()
        Job.objects.filter(state=State.RETRYING).update(not_before=timezone.now() - LONG)

    @precondition(lambda self: len(self.open) != 1)
    @rule(which=which, cancels=st.booleans())
    def nobody_waits_any_longer(self, which: int, cancels: bool) -> None:
        self.can_happen(Event.CANCEL if cancels else Event.EXPIRE)
        job_id = self.chosen_job(which)
        if cancels:
            assert job_cancel(job_id=job_id) is (self.before[job_id].state in OPEN)
        else:
            Job.objects.filter(id=job_id, finished_at=None).update(expires_at=timezone.now() - LONG)
            expire()

    @precondition(lambda self: self.some(lambda row: row.state is State.DEAD_LETTERED))
    @rule(which=which, again=st.booleans())
    def somebody_deals_with_a_dead_letter(self, which: int, again: bool) -> None:
        self.can_happen(Event.REPLAY)
        dead = [row for row in self.before.values() if row.state is State.DEAD_LETTERED]
        row = dead[which % len(dead)]
        who = Caller(team_id=row.team, role=Role.OPERATOR, name="op")
        try:
            if again:
                dead_letters.replay(job_id=row.id, caller=who)
                self.replays[row.id] += 1
            else:
                dead_letters.discard(job_id=row.id, caller=who, reason="no")
        except NotWaiting:
            assert row.discarded_at is not None
        else:
            assert row.discarded_at is None

    @precondition(lambda self: self.some(lambda row: row.state in FINAL) and len(self.open) < MOST_OPEN)
    @rule(which=which)
    def its_team_wants_it_after_all(self, which: int) -> None:
        self.can_happen(Event.RERUN)
        ended = [row for row in self.before.values() if row.state in FINAL]
        row = ended[which % len(ended)]
        try:
            rerun(job=Job.objects.get(id=row.id), caller=Caller(team_id=row.team, role=Role.SUBMITTER, name="key"))
        except NotWaiting:
            assert row.state is State.SUCCEEDED or row.discarded_at is not None
        except Invalid:
            assert row.purged_at is not None
        else:
            assert row.state in sources(Event.RERUN) and row.discarded_at is None and row.purged_at is None
            self.replays[row.id] += 1
            if row.attempt not in read_attempts().get(row.id, []):
                assert not row.worker, "an attempt that ran was forgotten"
                self.dropped.setdefault(row.id, []).append(row.attempt)

    @precondition(lambda self: self.some(lambda row: row.state in FINAL and row.purged_at is None))
    @rule()
    def what_has_ended_grows_old(self) -> None:
        self.can_happen()
        old = timezone.now() - timedelta(hours=settings.RESULT_RETENTION_HOURS + 1)
        Job.objects.filter(finished_at__isnull=False, purged_at=None).update(finished_at=old)
        purge()

    # --- What must hold ---

    @invariant()
    def every_row_is_in_order(self) -> None:
        now = read()
        # Without a change of a row no attempt is added either: that is looked at once, at the end.
        attempts = {} if now == self.before else read_attempts()
        assert now.keys() >= self.before.keys(), "a job is gone"
        for row in now.values():
            before = self.before.get(row.id)
            if before is None:
                assert (row.state, row.attempt, row.failures, row.lease_until) == (State.QUEUED, 1, 0, None)
            elif before != row:
                self.check_change(before, row)
            if row.id in self._expected:
                check_outcome(before, row, self._expected[row.id])
            if before != row:
                check_row(row, self.over(row, attempts))
        under_way = Counter((row.team, row.model, row.key) for row in now.values() if row.key and row.lease_until)
        assert not under_way or max(under_way.values()) == 1, "two of one key are under way"
        backing_off = [row.id for row in now.values() if self.backs_off(row)]
        if backing_off:
            # Time passes by `backoffs_are_over` only, and not because this machine is slow.
            Job.objects.filter(id__in=backing_off).update(not_before=timezone.now() + LONG)
            now = read()
        self.before = now
        self.new = 0
        self._happened, self._expected = frozenset(), {}
        self.in_order = True

    def backs_off(self, row: Row) -> bool:
        """Tell whether the job has just begun to wait; a suspect doesn't wait."""
        before = self.before.get(row.id)
        over = before is not None and row.state is State.RETRYING and row.attempt > before.attempt
        return over and (row.failures > before.failures or row.error_code == ErrorCode.MESSAGE_REFUSED)

    def check_change(self, before: Row, row: Row) -> None:
        """Check what may change in one step at all."""
        events = {
            event
            for event in self._happened
            if before.state in sources(event) and row.state is target(event) and event is not Event.DISPATCH
        }
        if before.state is not row.state and not events:
            assert Event.DISPATCH in self._happened, f"{before.state} became {row.state}"
            assert before.state in sources(Event.DISPATCH) and row.state is target(Event.DISPATCH)
        if before.state in FINAL and row.state in FINAL:
            # People, and time, may note something on it; what it has come to stays.
            assert row.state is before.state
            assert settled(row) == settled(before)
        if before.state in FINAL and row.state in OPEN:
            assert events in ({Event.REPLAY}, {Event.RERUN})
            assert (row.failures, row.lease_until, row.discarded_at) == (0, None, None)
        over = before.state is not row.state and row.state in {State.RETRYING, target(Event.REPLAY)}
        over = over and before.state is not State.RETRYING
        assert row.attempt - before.attempt == over, f"attempt {before.attempt} became {row.attempt}"
        assert row.isolated >= before.isolated
        self.happened.update(events)
        if before.state in OPEN and row.state in FINAL:
            generation = (row.id, self.replays[row.id])
            self.ends[generation] += 1
            assert self.ends[generation] == 1, "a second end"

    def check_that_it_was_due(self, row: Row, attempt: int, claimed: Claim, now: Any) -> None:
        """Check that a dispatcher may send the job."""
        assert row.state in sources(Event.DISPATCH)
        assert row.lease_until is None, "somebody else has it"
        assert (row.attempt, row.pool, row.isolated) == (attempt, *claimed.lane)
        assert row.not_before is None or row.not_before.replace(tzinfo=UTC) <= now
        assert row.expires_at is None or row.expires_at.replace(tzinfo=UTC) > now
        if row.key:
            same = [
                other
                for other in self.before.values()
                if (other.team, other.model, other.key) == (row.team, row.model, row.key) and other.state in OPEN
            ]
            assert not [other for other in same if other.lease_until is not None]
            assert min((other.queued_at, str(other.id)) for other in same) == (row.queued_at, str(row.id))

    def everything_ends(self) -> None:
        """Once nothing more goes wrong, every job comes to its end: nothing is stuck, whatever has happened."""
        for _ in range(3 * MOST_OPEN):
            sweep(everything=True)
            expire()
            Job.objects.filter(finished_at=None).update(not_before=None)
            claims = claim(rows.shares(rows.ROOM), self.dispatchers[0])
            if not claims:
                break
            for claimed in claims:
                outcomes = [outcome(item.id, item.attempt, None) for item in claimed.jobs]
                assert record_result(BundleResult(str(claimed.bundle), RUN, tuple(outcomes))) == len(outcomes)
        attempts = read_attempts()
        for row in read().values():
            assert row.state in FINAL, f"it is stuck: {row}"
            check_row(row, self.over(row, attempts))

    # --- How it is told ---

    def over(self, row: Row, attempts: dict[UUID, list[int]]) -> list[int]:
        """Return the numbers of the job's attempts that are over, given those that failed."""
        return sorted(attempts.get(row.id, []) + self.dropped.get(row.id, []))

    def can_happen(self, *events: Event) -> None:
        """Begin a step: note which events it may lead to. The check after it turns `in_order` back on."""
        self.happened["steps"] += 1
        self.in_order = False
        self._happened = frozenset(events)

    def expect(self, outcomes: list[Outcome]) -> None:
        """Note what the outcomes must lead to: of a job in that attempt what the policy says, else nothing."""
        for told in outcomes:
            row = self.before[UUID(told.id)]
            decision = SUCCESS
            if told.failure is not None:
                decision = decide(
                    told.failure.code,
                    failures=row.failures,
                    isolated=row.isolated,
                    policy=release_policy("wine", "1"),
                    jitter=0.0,
                    refusals=refusals(row.id),
                )
            counts = row.attempt == told.attempt and row.state in IN_FLIGHT & sources(decision.event)
            self._expected[row.id] = decision if counts else None

    @property
    def open(self) -> list[Row]:
        """Return the jobs that have not ended."""
        return [row for row in self.before.values() if row.state in OPEN]

    def some(self, condition: Callable[[Row], bool]) -> bool:
        """Tell whether there is such a job."""
        return any(map(condition, self.before.values()))

    def chosen_claim(self, which: int) -> Claim:
        """Return one of all claims ever made."""
        return self.claims[-1 - which % len(self.claims)]

    def chosen_job(self, which: int) -> UUID:
        """Return one of all jobs, rather an open one."""
        jobs = sorted(row.id for row in self.open) + sorted(row.id for row in self.before.values() if row.finished_at)
        return jobs[which % len(jobs)]


def check_row(row: Row, attempts: list[int]) -> None:
    """Check what is true of a job at any time."""
    final = row.state in FINAL
    assert row.has_result is (row.state is State.SUCCEEDED and row.purged_at is None)
    assert row.failures <= release_policy("wine", "1").attempts
    assert (row.finished_at is not None) is final
    assert row.lease_until is None or row.state in IN_FLIGHT
    assert row.lease_until is not None or row.state is not State.RUNNING
    # (A worker may start what was published without the dispatcher's knowing, after it was put back.)
    assert final or (row.bundle is None) is (row.lease_until is None) or row.state is State.RUNNING
    assert row.state is not State.RETRYING or (row.bundle, row.sent_at, row.worker) == (None, None, "")
    # Every attempt before this one is over and was kept, once; this one only if it has ended so.
    assert attempts in (list(range(1, row.attempt)), list(range(1, row.attempt + 1)))
    if len(attempts) == row.attempt:
        assert row.state in {State.FAILED, State.DEAD_LETTERED, State.EXPIRED}
    else:
        assert row.state not in {State.FAILED, State.DEAD_LETTERED}


def check_outcome(before: Row | None, row: Row, decision: Decision | None) -> None:
    """Check that an outcome led to what was decided, or to nothing at all."""
    assert before is not None
    if decision is None:
        assert row == before, "a late or repeated message changed something"
        return
    assert row.state is target(decision.event)
    assert row.failures == before.failures + decision.counts
    if decision.event is Event.RETRY:
        assert row.isolated is decision.isolate


def settled(row: Row) -> tuple[Any, ...]:
    """Return what no event but a replay or a rerun may change of a job that has ended."""
    return row._replace(finished_at=None, purged_at=None, discarded_at=None, has_result=False)


def outcome(job_id: str, attempt: int, code: ErrorCode | None) -> Outcome:
    """Return a worker's word about one attempt; without a code it went well."""
    if code is None:
        return Outcome(job_id, attempt, outputs=rows.OUTPUTS)
    return Outcome(job_id, attempt, failure=Failure(code, "why"))


def dead_bundle(claimed: Claim) -> tuple[dict[str, Any], bytes]:
    """Return headers and body of the claim's message as they come out of the dead-letter queue."""
    bundle = Bundle(
        id=str(claimed.bundle),
        model=claimed.model,
        version=claimed.version,
        sha256=claimed.sha256,
        columns=1,
        jobs=claimed.jobs,
        data=bytes(4 * sum(item.rows for item in claimed.jobs)),
    )
    queue = f"inference.{topology.lane(*claimed.lane)}"
    headers = {"task": INFER, "x-first-death-queue": queue, "x-first-death-reason": "delivery_limit"}
    return headers, json.dumps([[bundle.to_message()], {}, {}]).encode()
