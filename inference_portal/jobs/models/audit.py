"""Who did what to jobs that had ended, and to parked messages."""

from django.db import models


class Action(models.TextChoices):
    """What can be done to them."""

    RERUN = "rerun", "rerun"
    REPLAY = "replay", "replayed"
    DISCARD = "discard", "discarded"


class AuditEntry(models.Model):
    """One act of a person or a program. It outlives the job, so it holds the job's id and no reference."""

    at = models.DateTimeField(auto_now_add=True)
    who = models.CharField(max_length=200)
    action = models.CharField(max_length=16, choices=Action)
    job_id = models.UUIDField(null=True, db_index=True)
    # Or the parked message that it was about.
    message_id = models.BigIntegerField(null=True)
    reason = models.TextField(default="")
    # What was changed: {"version": ["1", "2"], "input_sha256": ["…", "…"]}, each as before and after.
    changes = models.JSONField(default=dict)

    class Meta:
        ordering = ["-at", "-id"]
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.who}: {self.action} {self.job_id or self.message_id}"
