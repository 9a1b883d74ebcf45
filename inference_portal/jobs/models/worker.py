"""The workers that were heard."""

from collections import Counter
from datetime import timedelta

from django.db import models
from django.utils import timezone

# Workers report every five seconds; one that has missed three reports counts as gone.
WORKER_SILENCE = timedelta(seconds=16)


class WorkerQuerySet(models.QuerySet["Worker"]):
    """What the rest of the portal asks for."""

    def alive(self) -> "WorkerQuerySet":
        """Keep those heard lately."""
        return self.filter(seen_at__gte=timezone.now() - WORKER_SILENCE)

    def processes(self) -> Counter[str]:
        """Return how many processes of live workers read each lane."""
        found: Counter[str] = Counter()
        for lanes, processes in self.alive().values_list("pools", "processes"):
            for lane in lanes:
                found[lane] += processes
        return found


class Worker(models.Model):
    """The last heartbeat of each worker."""

    name = models.CharField(max_length=255, primary_key=True)
    host = models.CharField(max_length=255)
    # The lanes that it reads: "cpu", "cpu.isolated" …
    pools = models.JSONField()
    device = models.CharField(max_length=32)
    processes = models.PositiveSmallIntegerField()
    # "model:version" of everything that its pools may serve.
    serves = models.JSONField()
    # What its pools should serve and it can't, with the reason: "model:version: reason".
    problems = models.JSONField(default=list, db_default=models.Value([], models.JSONField()))
    seen_at = models.DateTimeField()

    objects = WorkerQuerySet.as_manager()

    def __str__(self) -> str:
        return self.name

    @property
    def is_alive(self) -> bool:
        """Tell whether it was heard lately."""
        return timezone.now() - self.seen_at <= WORKER_SILENCE
