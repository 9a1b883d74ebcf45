"""A batch and its chunks as /api/ shows them."""

from typing import Any

from django.utils import timezone
from rest_framework import serializers

from inference_portal.batches.models import Batch, Chunk
from inference_portal.batches.progress import pace

# So many events are told of a batch.
MAX_HISTORY = 50


class BatchSerializer(serializers.ModelSerializer[Batch]):
    """A batch, and how far it is."""

    team = serializers.CharField(source="team.name", read_only=True)
    model_sha256 = serializers.CharField(source="sha256", read_only=True)
    attempts = serializers.IntegerField(source="attempt", read_only=True)
    rows_per_second = serializers.SerializerMethodField()
    seconds_left = serializers.SerializerMethodField()
    chunks = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()
    schedule = serializers.UUIDField(source="schedule_id", read_only=True)

    class Meta:
        model = Batch
        fields = (
            "id", "team", "submitted_by", "model", "version", "model_sha256", "state", "note", "input", "output",
            "keep_columns", "chunk_rows", "retry_policy", "max_attempts", "error_threshold", "deadline", "at_risk",
            "eta", "attempts", "rows_total", "rows_done", "rows_failed", "rows_per_second", "seconds_left", "chunks",
            "created_at", "started_at", "finished_at", "error", "schedule", "due_at", "purged_at",
        )  # fmt: skip

    def get_rows_per_second(self, batch: Batch) -> float | None:
        """Return how fast it goes."""
        return pace(batch, timezone.now()).rows_per_second

    def get_seconds_left(self, batch: Batch) -> float | None:
        """Return how long it will take."""
        return pace(batch, timezone.now()).seconds_left

    def get_chunks(self, batch: Batch) -> dict[str, int]:
        """Return how many there are, and how many of them are through."""
        return {"total": batch.chunks_total, "done": batch.chunks_done}

    def get_error(self, batch: Batch) -> dict[str, str] | None:
        """Return what ended it."""
        return {"code": batch.error_code, "message": batch.error_message} if batch.error_code else None


class BatchDetailSerializer(BatchSerializer):
    """And what made its output, what it took over from the run before, and what happened to it."""

    history = serializers.SerializerMethodField()

    class Meta(BatchSerializer.Meta):
        fields = (*BatchSerializer.Meta.fields, "receipt", "carried", "history")  # type: ignore[assignment]

    def get_history(self, batch: Batch) -> list[dict[str, Any]]:
        """Return the last things that people should know, in order."""
        last = list(batch.events.order_by("-id")[:MAX_HISTORY])
        return [{"at": event.at, "kind": event.kind, "text": event.text} for event in reversed(last)]


class ChunkSerializer(serializers.ModelSerializer[Chunk]):
    """A range of the rows, and what became of it."""

    job = serializers.UUIDField(source="job_id", read_only=True)

    class Meta:
        model = Chunk
        fields = ("number", "first_row", "rows", "attempt", "state", "rows_failed", "reason", "job")


def batch_document(batch: Batch) -> dict[str, Any]:
    """Return all of a batch, as its page and its events have it."""
    return dict(BatchDetailSerializer(batch).data)
