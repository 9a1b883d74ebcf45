"""What workers run now, as far as it was announced: runs that are over quickly never are."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import CharField, Count, Min, Sum
from django.db.models.functions import Cast

from inference_portal.jobs.models import Job
from inference_portal.jobs.states import State


@dataclass(frozen=True, slots=True)
class Run:
    """One bundle in the hands of one process: that many jobs of one release, and the id of one of them."""

    process: str
    model: str
    version: str
    jobs: int
    rows: int
    started_at: datetime | None
    job: UUID


def runs_by_worker() -> dict[str, list[Run]]:
    """Return what each worker runs, by its name: a bundle for each of its processes at the most."""
    running = Job.objects.filter(lease_until__isnull=False, state=State.RUNNING)
    bundles = running.values_list("bundle", "worker", "model", "version").annotate(
        jobs=Count("pk"),
        total=Sum("rows"),
        started=Min("started_at"),
        # PostgreSQL before 18 has no least UUID.
        one=Min(Cast("pk", CharField())),
    )
    found: dict[str, list[Run]] = defaultdict(list)
    for _, process, model, version, jobs, rows, started, one in bundles.order_by("worker", "started"):
        found[process.rpartition("/")[0]].append(Run(process, model, version, jobs, rows, started, UUID(one)))
    return found
