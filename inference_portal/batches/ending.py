"""How batches change their state, and what goes with an end. For transactions that hold the batch's row locked."""

from collections.abc import Callable
from typing import Any

from django.utils import timezone

from inference_portal.batches import step_jobs
from inference_portal.batches.models import Batch, BatchEvent, Kind
from inference_portal.batches.models.chunk import DONE
from inference_portal.batches.states import FINAL, Event, State, sources, target
from inference_portal.jobs.services import steps_cancel

_KINDS = {
    State.SUCCEEDED: Kind.SUCCEEDED,
    State.PARTIAL: Kind.PARTIAL,
    State.FAILED: Kind.FAILED,
    State.CANCELLED: Kind.CANCELLED,
}
# Of a run that has no plan yet.
FRESH: dict[str, Any] = {
    "plan": None,
    "rows_total": None,
    "rows_done": 0,
    "rows_failed": 0,
    "chunks_total": 0,
    "chunks_done": 0,
    "at_risk": False,
    "eta": None,
    "pace": None,
}


class Moved(RuntimeError):
    """The batch is no longer as it was read; the transaction must not commit."""


def batch_transition(batch: Batch, event: Event, **fields: Any) -> None:
    """Apply one event to the batch that was read, in the database and in memory. Raises Moved."""
    goal = target(event)
    if goal in FINAL:
        fields = {"finished_at": timezone.now(), "note": "", "eta": None, "pace": None, "at_risk": False} | fields
    same = Batch.objects.filter(id=batch.id, attempt=batch.attempt, state__in=sources(event))
    if not same.update(state=goal, **fields):
        raise Moved(f"batch {batch.id} is no longer {batch.state}")
    for name, value in {"state": goal.value, **fields}.items():
        setattr(batch, name, value)


def batch_end(batch: Batch, event: Event, *, code: str = "", message: str = "", text: str = "", **fields: Any) -> None:
    """End the run: what is under way is cancelled. Its parts stay only where a rerun could go on with them.

    `code` and `message` say what was wrong, `text` what else there is to tell. Raises Moved.
    """
    batch_transition(batch, event, error_code=code, error_message=message, **fields)
    steps_cancel(batch_id=batch.id)
    tell(batch, _KINDS[State(batch.state)], message or text)
    if batch.state in (State.SUCCEEDED, State.PARTIAL) and not batch.chunks.exclude(state=DONE).exists():
        step_jobs.store([step_jobs.clean_job(batch, everything=False)])
        Batch.objects.filter(id=batch.id).update(cleaned_at=batch.finished_at)


# Is told, in the same transaction, of what people are told; `deliveries` puts itself on the list.
ON_EVENT: list[Callable[[BatchEvent], None]] = []


def tell(batch: Batch, kind: Kind, text: str = "") -> None:
    """Note what people should know."""
    event = BatchEvent.objects.create(batch=batch, kind=kind, text=text)
    for on_event in ON_EVENT:
        on_event(event)
