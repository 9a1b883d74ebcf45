"""Where in the queue a job stands. An estimate: while it is read, others come and go."""

from django.db import connection
from django.utils import timezone

from inference_portal.jobs import sql
from inference_portal.jobs.models import Job
from inference_portal.jobs.states import OPEN, State

# Counting a longer queue would cost more than the number is worth.
POSITION_LIMIT = 10_000
# States and order are those of the partial index `job_due`, so that the databases use it.
_AHEAD = f"""
    SELECT COUNT(*) FROM (
        SELECT 1 FROM jobs_job WHERE state IN ('queued', 'retrying') AND lease_until IS NULL
          AND pool = %s AND isolated = %s AND team_id = %s AND (priority, queued_at, id) < (%s, %s, %s)
          AND (not_before IS NULL OR not_before <= %s)
        ORDER BY priority, queued_at LIMIT {POSITION_LIMIT}
    ) AS ahead
"""  # noqa: S608


def queue_position(job: Job) -> int | None:
    """Return 1 for a job that nothing is ahead of; None unless it waits for a worker.

    Ahead of it is what is on its way to the same workers, and of its own team what goes first by priority and time, at
    most POSITION_LIMIT of that. Jobs of other teams are not counted: the teams take turns.
    """
    if job.state not in OPEN - {State.RUNNING}:
        return None
    sent = Job.objects.filter(lease_until__isnull=False, state=State.QUEUED, pool=job.pool, isolated=job.isolated)
    if job.lease_until is None:
        return 1 + sent.count() + _ahead(job)
    return 1 + (sent if job.sent_at is None else sent.filter(sent_at__lt=job.sent_at)).exclude(id=job.id).count()


def _ahead(job: Job) -> int:
    place = [job.priority, sql.moment(job.queued_at), *sql.keys([job.id])]
    with connection.cursor() as cursor:
        cursor.execute(_AHEAD, [job.pool, job.isolated, job.team_id, *place, sql.moment(timezone.now())])
        return int(cursor.fetchone()[0])
