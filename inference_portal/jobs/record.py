"""From workers' messages to rows: guarded, so that a message that comes twice, late or out of order changes nothing.

Times are those of the recorder, of a worker's clock only how long it ran.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from inference_portal.jobs import changes, sql
from inference_portal.jobs.models import Attempt, Job, Worker
from inference_portal.jobs.retry import BLAMELESS, REFUSED_ATTEMPTS, decide
from inference_portal.jobs.services import NOT_SENT, announce_final, job_transition
from inference_portal.jobs.states import IN_FLIGHT, Event, sources, target
from inference_portal.jobs.statistics import Ended, count, went_one_by_one
from inference_portal.store import model_store
from workers.contract import BundleResult, Failure, Heartbeat, Outcome, Run, Started
from workers.failpoints import failpoint
from workers.manifest import BATCH, Policy
from workers.model_store import UnknownModel

# Rows of workers that were not heard for this long are removed: names of short-lived containers would pile up.
FORGET_WORKER_AFTER = timedelta(days=1)
# Where an attempt ran: known from its result, or from its start when it was lost.
_WHERE = ("worker", "host", "device", "started_at")
_DECIDE = ("model", "version", "failures", "isolated")
# How many bundles may be under way for each process of a lane. One runs and the next one is ready; but a suspect has
# its process for itself, so that whatever happens there, and however late it is, is its own doing.
BUNDLES_PER_PROCESS = 2
SUSPECTS_PER_PROCESS = 1
# The most that a batch's step may take: far below RabbitMQ's consumer time-out of half an hour.
STEP_SECONDS = 900.0


def record_result(result: BundleResult) -> int:
    """Record all outcomes of a bundle in one transaction. Returns how many jobs it changed."""
    # In one order for all recorders: the same jobs in another order, twice at once, would be a deadlock.
    outcomes = sorted(result.outcomes, key=lambda outcome: outcome.id)
    finished = timezone.now()
    started = finished - _duration(result.run)
    with transaction.atomic():
        successes = [o for o in outcomes if o.outputs is not None]
        succeeded = _succeed(result.run, successes, started, finished) if successes else []
        moved = [
            UUID(outcome.id)
            for outcome in outcomes
            if outcome.failure is not None
            and record_failure(UUID(outcome.id), outcome.attempt, outcome.failure, result.run)
        ]
        conclude(succeeded, moved, started=started, finished=finished, one_by_one=went_one_by_one(outcomes))
        failpoint("recorder.in_transaction")
    return len(succeeded) + len(moved)


def record_lost(lost: Iterable[tuple[UUID, int]], failure: Failure) -> int:
    """Record in one transaction that attempts failed of which no worker will tell. Returns how many jobs it changed."""
    with transaction.atomic():
        moved = [job_id for job_id, attempt in sorted(lost) if record_failure(job_id, attempt, failure, run=None)]
        if moved:
            now = timezone.now()
            conclude([], moved, started=now, finished=now)
    return len(moved)


def conclude(
    succeeded: Sequence[Ended],
    moved: Sequence[UUID],
    *,
    started: datetime,
    finished: datetime,
    one_by_one: bool = False,
) -> None:
    """Tell of jobs that have succeeded, and of others that have moved on or ended, and count what has ended.

    The last thing in a transaction (see `statistics.count`).
    """
    failed = _ended(moved)
    wanted = announce_final([job.id for job in (*succeeded, *failed)])
    if forgotten := [job.id for job in succeeded if not job.keeps_result and job.id not in wanted]:
        Job.objects.filter(id__in=forgotten).update(result=None)
    # There is room for another bundle, or a job is due again, or a batch can go on.
    changes.notify(changes.DISPATCH, changes.STEPS if any(job.step for job in (*succeeded, *failed)) else "")
    count(succeeded, failed, started, finished, one_by_one=one_by_one)


def record_failure(job_id: UUID, attempt: int, failure: Failure, run: Run | None) -> bool:
    """Decide about one failed attempt, keep it, and move the job on; `conclude` does the rest. False when the job had
    moved on before."""
    job = Job.objects.filter(id=job_id, attempt=attempt, state__in=IN_FLIGHT).values(*_WHERE, *_DECIDE).first()
    if job is None:
        return False
    decision = decide(
        failure.code,
        failures=job["failures"],
        isolated=job["isolated"],
        policy=release_policy(job["model"], job["version"]),
        jitter=random.random(),  # noqa: S311
        refusals=refusals(job_id) if failure.code in BLAMELESS else 0,
    )
    now = timezone.now()
    where: dict[str, Any] = {name: job[name] for name in _WHERE}
    if run is not None:
        started = now - _duration(run)
        where = {"worker": run.worker, "host": run.host, "device": run.device, "started_at": started}
    fields: dict[str, Any] = {
        "error_code": failure.code,
        "error_message": storable(failure.message),
        "failures": job["failures"] + decision.counts,
        **where,
    }
    if decision.event is Event.RETRY:
        fields |= NOT_SENT | {
            "attempt": attempt + 1,
            "isolated": decision.isolate,
            "not_before": now + timedelta(seconds=decision.delay),
        }
    else:
        fields["finished_at"] = now
    changed = job_transition(job_id=job_id, event=decision.event, of_attempt=attempt, **fields)
    if changed:
        Attempt.objects.create(
            job_id=job_id,
            number=attempt,
            finished_at=now,
            code=failure.code,
            message=storable(failure.message),
            traceback=storable(failure.traceback),
            **where,
        )
    return changed


def refusals(job_id: UUID) -> int:
    """Return how many attempts have failed blamelessly, one after the other up to now.

    Whoever tries again what was given up for it begins anew.
    """
    newest_first = Attempt.objects.filter(job_id=job_id).order_by("-number").values_list("code", flat=True)
    in_a_row = takewhile(BLAMELESS.__contains__, newest_first[:REFUSED_ATTEMPTS])
    return len(list(in_a_row)) % REFUSED_ATTEMPTS


def record_started(started: Started) -> int:
    """Show jobs as running, and give them the time that their model may take. Returns how many jobs it changed."""
    now = timezone.now()
    by_attempt: dict[int, list[UUID]] = defaultdict(list)
    for job_id, attempt in started.jobs:
        by_attempt[attempt].append(UUID(job_id))
    changed = 0
    for attempt, ids in by_attempt.items():
        jobs = Job.objects.filter(id__in=ids, attempt=attempt, state__in=sources(Event.START))
        first = jobs.values("model", "version", "timeout_seconds").first()
        if first is None:
            continue
        changed += jobs.update(
            state=target(Event.START),
            started_at=now,
            worker=started.run.worker,
            host=started.run.host,
            # It was sent, whether or not the dispatcher lived to note it; what runs is never without a lease.
            sent_at=Coalesce("sent_at", now),
            lease_until=now + running_lease(**first),
        )
    return changed


def record_heartbeat(heartbeat: Heartbeat) -> None:
    """Note that a worker lives. The time is the arrival's: by a clock that is slow it would never be alive."""
    now = timezone.now()
    fields = {
        "host": heartbeat.host,
        "pools": list(heartbeat.pools),
        "device": heartbeat.device,
        "processes": heartbeat.processes,
        "serves": list(heartbeat.models),
        "problems": [storable(problem) for problem in heartbeat.problems],
        "seen_at": now,
    }
    Worker.objects.update_or_create(name=heartbeat.worker, defaults=fields)
    Worker.objects.filter(seen_at__lt=now - FORGET_WORKER_AFTER).delete()


def running_lease(model: str, version: str, timeout_seconds: float | None) -> timedelta:
    """Return how long an attempt that was seen running may go on: its time-out, and the way of the result."""
    time_out = timeout_seconds or release_policy(model, version).timeout_seconds
    return timedelta(seconds=settings.LEASE_SECONDS + time_out)


def sent_lease(pool: str, isolated: bool) -> timedelta:
    """Return how long a message may be under way: behind the slowest model of its pool, and then as long itself."""
    manifests = (release.manifest for release in model_store().snapshot().every())
    slowest = max((m.policy.timeout_seconds for m in manifests if pool in m.pools), default=0.0)
    if pool == BATCH:
        slowest = max(slowest, STEP_SECONDS)
    waiting = SUSPECTS_PER_PROCESS if isolated else BUNDLES_PER_PROCESS
    return timedelta(seconds=settings.LEASE_SECONDS + waiting * slowest)


def release_policy(model: str, version: str) -> Policy:
    """Return a release's retry policy; the default one when the release is gone."""
    try:
        return model_store().get(model, version).manifest.policy
    except UnknownModel:
        return Policy()


def _succeed(run: Run, outcomes: list[Outcome], started: datetime, finished: datetime) -> list[Ended]:
    """One UPDATE for a bundle (12 µs a job in groups of 100, 230 alone). Returns the jobs that it ended."""
    row = "(%s::uuid, %s::smallint, %s::bytea)" if connection.vendor == "postgresql" else "(%s, %s, %s)"
    states = sorted(sources(Event.SUCCEED))
    state_list = ", ".join(["%s"] * len(states))
    values: list[Any] = []
    for outcome in outcomes:
        values += [*sql.keys([outcome.id]), outcome.attempt, (outcome.outputs or "").encode()]
    # Identifiers are constants; every value is a parameter.
    empty = "''::bytea" if connection.vendor == "postgresql" else "x''"
    statement = f"""
        WITH v(id, attempt, result) AS (VALUES {", ".join([row] * len(outcomes))})
        UPDATE jobs_job SET state = %s, started_at = %s, finished_at = %s, lease_until = NULL,
               result = v.result,
               input = CASE WHEN keeps_result THEN input ELSE {empty} END,
               worker = %s, host = %s, device = %s, libraries = %s, error_code = '', error_message = ''
        FROM v
        WHERE jobs_job.id = v.id AND jobs_job.attempt = v.attempt AND jobs_job.state IN ({state_list})
        RETURNING {", ".join(f"jobs_job.{name}" for name in Ended._fields)}
    """  # noqa: S608
    times = [connection.ops.adapt_datetimefield_value(moment) for moment in (started, finished)]
    values += [target(Event.SUCCEED), *times, run.worker, run.host, run.device, storable(run.libraries), *states]
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        ended = cursor.fetchall()
    return [
        Ended(sql.as_uuid(job_id), model, version, rows, sql.as_moment(queued_at), step, bool(keeps_result))
        for job_id, model, version, rows, queued_at, step, keeps_result in ended
    ]


def _ended(job_ids: Sequence[UUID]) -> list[Ended]:
    """Return those of the jobs that don't go on."""
    if not job_ids:
        return []
    over = Job.objects.filter(id__in=job_ids, finished_at__isnull=False)
    return [Ended(*values) for values in over.values_list(*Ended._fields)]


def storable(text: str) -> str:
    """Replace what PostgreSQL doesn't store; what comes from outside may hold anything."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode(errors="replace").decode()


def _duration(run: Run) -> timedelta:
    """Return how long it ran: all that is taken from a worker's clock.

    Times are those of the arrival here. By a worker's clock that is a week slow its results would be removed as old at
    once, and by one that is fast they would never be.
    """
    return timedelta(seconds=0 if run.finished is None else max(0.0, run.finished - run.started))
