"""The attempts that did not succeed."""

from django.db import models


class Attempt(models.Model):
    """One attempt that did not succeed. One that did is on the job itself; so is, until a rerun, a cancelled one."""

    job = models.ForeignKey("jobs.Job", on_delete=models.CASCADE, related_name="failed_attempts")
    number = models.PositiveSmallIntegerField()
    worker = models.CharField(max_length=255, default="")
    host = models.CharField(max_length=255, default="", db_default="")
    device = models.CharField(max_length=32, default="")
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField()
    code = models.CharField(max_length=32)
    message = models.TextField()
    traceback = models.TextField(default="")

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="attempt_once")]

    def __str__(self) -> str:
        return f"attempt {self.number}: {self.code}"
