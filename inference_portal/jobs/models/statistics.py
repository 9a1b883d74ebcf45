"""What each version of a model has done, in sums that outlive the jobs."""

from django.db import models


class ModelStatistics(models.Model):
    """The sums of one version; written with the results that they count, in one transaction. Times in microseconds."""

    model = models.CharField(max_length=64)
    version = models.CharField(max_length=9)
    succeeded = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    # Rows of those that succeeded, and the calls that predicted them: many jobs go in one.
    rows = models.PositiveBigIntegerField(default=0)
    executions = models.PositiveBigIntegerField(default=0)
    # Of all that succeeded, added up: from acceptance to start, in the worker, and from acceptance to end.
    queue_us = models.PositiveBigIntegerField(default=0)
    run_us = models.PositiveBigIntegerField(default=0)
    total_us = models.PositiveBigIntegerField(default=0)
    # Of all that failed, from acceptance to end.
    failed_us = models.PositiveBigIntegerField(default=0)
    last_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["model", "version"], name="statistics_once")]

    def __str__(self) -> str:
        return f"{self.model}:{self.version}"
