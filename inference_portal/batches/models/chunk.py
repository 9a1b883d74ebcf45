"""The chunks of a batch."""

from django.db import models
from django.db.models import Q

from inference_portal.batches.models.batch import Batch

OPEN, DONE, FAILED = "open", "done", "failed"
_STATES = [OPEN, DONE, FAILED]


class Chunk(models.Model):
    """A range of a batch's rows. Without `job_id` it waits until it is its turn to get a job.

    A chunk whose job has ended without a result is open until the policy has decided about it.
    """

    # Without an index of its own, which has all chunks of a batch: those below have those that are asked for.
    batch = models.ForeignKey(Batch, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    number = models.PositiveIntegerField()
    first_row = models.PositiveBigIntegerField()
    rows = models.PositiveIntegerField()
    # Where these rows are, as the plan says.
    source = models.JSONField()
    # Counted within the batch's attempt.
    attempt = models.PositiveSmallIntegerField(default=1)
    job_id = models.UUIDField(null=True)
    state = models.CharField(max_length=8, choices=[(s, s) for s in _STATES], default=OPEN)
    rows_failed = models.PositiveIntegerField(default=0)
    # Why it failed; or why it did the last time.
    reason = models.TextField(default="", blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["batch", "number"], name="chunk_number_once"),
            models.CheckConstraint(name="chunk_state_is_known", condition=Q(state__in=_STATES)),
        ]
        indexes = [
            # What a look asks for, however many chunks are through or have to wait.
            models.Index(
                fields=["batch", "job_id"], name="chunk_under_way", condition=Q(state=OPEN, job_id__isnull=False)
            ),
            models.Index(fields=["batch", "number"], name="chunk_waiting", condition=Q(state=OPEN, job_id=None)),
            models.Index(fields=["batch", "number"], name="chunk_failed", condition=Q(state=FAILED)),
        ]

    def __str__(self) -> str:
        return f"{self.batch_id} {self.number}"
