"""What happened to a batch that people should know."""

from django.db import models
from django.utils import timezone

from inference_portal.batches.models.batch import Batch


class Kind(models.TextChoices):
    """What can happen."""

    STARTED = "started", "started"
    WAITS_FOR_WORKERS = "waits-for-workers", "waits for batch workers"
    AT_RISK = "at-risk", "will miss its deadline"
    ON_TIME = "on-time", "will be on time after all"
    CHUNK_RETRIED = "chunk-retried", "chunks are tried again"
    CHUNK_FAILED = "chunk-failed", "chunks failed"
    STARTED_ANEW = "started-anew", "started anew"
    CHANGED = "changed", "changed"
    RERUN = "rerun", "rerun"
    SUCCEEDED = "succeeded", "succeeded"
    PARTIAL = "partial", "succeeded but for some rows"
    FAILED = "failed", "failed"
    CANCELLED = "cancelled", "cancelled"
    PURGED = "purged", "output removed"
    REHEARSAL = "rehearsal", "a rehearsal"
    WARNING = "warning", "a warning"


class BatchEvent(models.Model):
    """One of them. Never changed; goes with its batch."""

    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="events")
    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=24, choices=Kind)
    text = models.TextField(default="", blank=True)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.batch_id}: {self.kind}"
