"""Clients that follow batches; they share the places of those that follow jobs."""

from collections.abc import Iterable
from typing import NamedTuple
from uuid import UUID

from inference_portal.batches.models import Batch
from inference_portal.jobs.streams import Streams, places

_FIELDS = ("attempt", "state", "rows_done", "rows_failed", "chunks_done", "at_risk", "retry_policy", "deadline", "note")


class Mark(NamedTuple):
    """What tells one state of a batch from the next: its state and its progress, and what people changed."""

    attempt: int
    state: str
    rows_done: int
    rows_failed: int
    chunks_done: int
    at_risk: bool
    retry_policy: str
    deadline: object
    note: str

    def as_text(self) -> str:
        """Return it as the id of an event. What is left out changes nothing about the end of a batch."""
        numbers = f"{self.rows_done}-{self.rows_failed}-{self.chunks_done}-{self.at_risk:d}"
        return f"{self.attempt}-{self.state}-{numbers}"


def mark_of(batch: Batch) -> Mark:
    """Return the batch's mark."""
    return Mark(*(getattr(batch, field) for field in _FIELDS))


class Batches:
    """See jobs.streams.Kind."""

    def mark(self, thing: Batch) -> Mark:
        """See Kind.mark."""
        return mark_of(thing)

    def marks(self, ids: set[UUID]) -> dict[UUID, tuple[object, ...]]:
        """See Kind.marks."""
        found = Batch.objects.filter(id__in=ids).values_list("id", *_FIELDS)
        return {batch_id: tuple(mark) for batch_id, *mark in found}

    def load(self, ids: set[UUID]) -> Iterable[Batch]:
        """See Kind.load."""
        return Batch.objects.filter(id__in=ids).select_related("team").defer("plan")


batch_streams = Streams(places, Batches())
