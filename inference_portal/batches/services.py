"""What can be done to a batch from outside. Each is one transaction that holds its row locked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Team
from inference_portal.batches import asked, chunks, step_jobs
from inference_portal.batches.ending import FRESH, batch_end, batch_transition, tell
from inference_portal.batches.models import Batch, Kind
from inference_portal.batches.models.batch import CHUNK_ROWS, MAX_ATTEMPTS
from inference_portal.batches.policies import RetryPolicy
from inference_portal.batches.states import Event, State, sources
from inference_portal.catalog.traffic import choose, refuse_retired
from inference_portal.jobs.models import Job
from inference_portal.jobs.quota import Full
from inference_portal.jobs.rerun import NotWaiting
from inference_portal.jobs.services import steps_cancel
from workers.failpoints import failpoint

# Nobody knows when a batch ends.
RETRY_AFTER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Due:
    """The run of a schedule for one instant; `carried` is what the one before has left (`carried.carried_from`)."""

    schedule_id: UUID
    at: datetime
    carried: dict[str, Any] | None = None


def batch_new(
    *,
    caller: Caller,
    model: str,
    input: Mapping[str, Any],  # noqa: A002
    version: str | None = None,
    output: Mapping[str, Any] | None = None,
    keep_columns: Sequence[str] = (),
    chunk_rows: int = CHUNK_ROWS,
    retry_policy: str = RetryPolicy.PARTIAL.value,
    max_attempts: int = MAX_ATTEMPTS,
    error_threshold: float | None = None,
    deadline: datetime | None = None,
    due: Due | None = None,
) -> Batch:
    """Return a batch that isn't stored yet, for the release that takes the traffic now: the run is pinned to it.

    Raises Invalid with the field, UnknownModel. What is in the data set is looked at by its first step.
    """
    refuse_retired(model, version)
    batch_id = uuid4()
    manifest = choose(model, version, str(batch_id)).manifest
    asked.check_numbers(chunk_rows=chunk_rows, max_attempts=max_attempts, error_threshold=error_threshold)
    asked.check_deadline(deadline)
    return Batch(
        id=batch_id,
        team_id=caller.team_id,
        submitted_by=caller.name,
        model=manifest.model,
        version=manifest.version,
        sha256=manifest.sha256,
        input=asked.checked_input(input, caller),
        output=asked.checked_output(output or {}),
        keep_columns=asked.checked_columns(keep_columns),
        chunk_rows=chunk_rows,
        retry_policy=asked.checked_policy(retry_policy).value,
        max_attempts=max_attempts,
        error_threshold=error_threshold,
        deadline=deadline,
        schedule_id=None if due is None else due.schedule_id,
        due_at=None if due is None else due.at,
        carried=None if due is None else due.carried,
    )


def batch_accept(*, batch: Batch) -> None:
    """Store the batch; once this returns it is accepted and can't be lost.

    Raises Full when the team has too many open ones, IntegrityError for a schedule's instant that has its run.
    """
    with transaction.atomic():
        _check_room(batch.team_id)
        batch.save(force_insert=True)
        step_jobs.store([step_jobs.plan_job(batch)])
        failpoint("batches.before_accepted")
    failpoint("portal.after_commit")


def batch_cancel(*, batch_id: UUID, caller: Caller) -> bool:
    """Cancel an open batch; what workers still do for it is thrown away. False when it has ended already."""
    with transaction.atomic():
        batch = Batch.objects.locked(batch_id, waits=True)
        if batch is None or batch.state not in sources(Event.CANCEL):
            return False
        batch_end(batch, Event.CANCEL, text=f"by {caller.name}")
    return True


def batch_change(*, batch_id: UUID, caller: Caller, **fields: Any) -> Batch:
    """Change `retry_policy` or `deadline` (None: none) of an open batch; returns it.

    Another policy also decides about the chunks that the one before has left failed. Raises Invalid, NotWaiting for a
    batch that has ended, or whose chunks are through.
    """
    if "retry_policy" in fields:
        fields["retry_policy"] = asked.checked_policy(fields["retry_policy"]).value
    if "deadline" in fields:
        asked.check_deadline(fields["deadline"])
    with transaction.atomic():
        batch = _locked(batch_id)
        if batch.is_final:
            raise NotWaiting(f"The batch is {batch.state}; only an open one can be changed.")
        changed = {name: fields[name] for name in ("retry_policy", "deadline") if name in fields}
        changed = {name: value for name, value in changed.items() if value != getattr(batch, name)}
        if not changed:
            return batch
        if "retry_policy" in changed and batch.state == State.MERGING:
            raise NotWaiting("All chunks of the batch are through: there is nothing left to try again.")
        Batch.objects.filter(id=batch.id).update(**changed)
        for name, value in changed.items():
            setattr(batch, name, value)
        if "retry_policy" in changed and batch.state == State.RUNNING:
            chunks.reopen_chunks(batch)
        what = ", ".join(f"{name} is {value or 'none'}" for name, value in changed.items())
        tell(batch, Kind.CHANGED, f"{what}, by {caller.name}")
    return batch


def batch_rerun(*, batch_id: UUID, caller: Caller, retry_policy: str) -> Batch:
    """Run an ended batch again, as its next attempt and from now on with this policy: `partial` goes on with what is
    not done, `all` begins with the plan. Returns it.

    A deadline that has passed is dropped. Raises Invalid, Full, NotWaiting with what to do instead.
    """
    policy = asked.checked_policy(retry_policy, (RetryPolicy.PARTIAL, RetryPolicy.ALL))
    with transaction.atomic():
        batch = _locked(batch_id)
        resumes = policy is RetryPolicy.PARTIAL and batch.plan is not None
        if batch.state not in sources(Event.RERUN):
            raise NotWaiting(f"The batch is {batch.state}; only one that has ended can be run again.")
        if resumes:
            _check_resumable(batch)
        _check_room(batch.team_id)
        _check_not_cleaning(batch)
        steps_cancel(batch_id=batch.id)
        fields: dict[str, Any] = {
            "attempt": batch.attempt + 1,
            "attempts_before": batch.attempt,
            "retry_policy": policy.value,
            "deadline": batch.deadline if batch.deadline is not None and batch.deadline > timezone.now() else None,
            "finished_at": None,
            "error_code": "",
            "error_message": "",
            "receipt": None,
            "cleaned_at": None,
            "purged_at": None,
        }
        if resumes:
            batch_transition(batch, Event.RESUME, **fields, plan=chunks.without_beginning(batch.planned))
            chunks.retry_chunks(batch)
        else:
            batch_transition(batch, Event.RERUN, **fields, **FRESH)
            step_jobs.store([step_jobs.plan_job(batch)])
        tell(batch, Kind.RERUN, f"attempt {batch.attempt}, {policy}, by {caller.name}")
        failpoint("rerun.before_commit")
    return batch


def _locked(batch_id: UUID) -> Batch:
    batch = Batch.objects.locked(batch_id, waits=True)
    if batch is None:
        raise NotWaiting("The batch is gone.")
    return batch


def _check_room(team_id: int) -> None:
    """Raise Full when the team has as many open batches as it may have. One of a team at a time, to count right."""
    team = Team.objects.filter(id=team_id)
    if connection.vendor == "postgresql":
        # Not against those who only refer to it: each new job does.
        team = team.select_for_update(no_key=True)
    team.get()
    counted, limit = Batch.objects.open().filter(team_id=team_id).count(), settings.MAX_OPEN_BATCHES
    if counted >= limit:
        detail = f"The team has {counted:,} open batches; at most {limit:,} may be open at once."
        raise Full(detail, of_team=True, retry_after=RETRY_AFTER_SECONDS)


def _check_resumable(batch: Batch) -> None:
    if batch.cleaned_at is not None:
        reason = "its parts are removed" if chunks.unfinished(batch) else "every chunk of it is done"
        raise NotWaiting(f"The batch is {batch.state}, and {reason}; run it again with 'all'.")


def _check_not_cleaning(batch: Batch) -> None:
    """Raise NotWaiting while a step that removes the batch's files may be under way: it would remove new ones."""
    cleaning = Job.objects.filter(batch_id=batch.id, step=step_jobs.CLEAN, finished_at=None, lease_until__isnull=False)
    if cleaning.exists():
        raise NotWaiting("The batch's files are being removed; try again in a minute.")
