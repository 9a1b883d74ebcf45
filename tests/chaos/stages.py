"""Where the time of jobs went, stage by stage, from the times that the database has."""

from tests.chaos.evidence import query

# Until the dispatcher had sent it, until a worker began, until the worker had ended, until the result was stored.
STAGES = ("sent", "begun", "run", "stored")


def stages(database: str, submitted_by: str, since: float, until: float) -> dict[str, tuple[float, float]]:
    """Return median and p95 in seconds of each stage, for the jobs that keys of such names submitted in that time.

    `submitted_by` is a pattern of SQL, the times are epoch seconds. A result may come before the dispatcher's note that
    it has sent the job: that one counts as begun when it was sent.
    """
    sql = f"""
        WITH times AS (
            SELECT extract(epoch FROM accepted_at) AS accepted,
                   extract(epoch FROM least(coalesce(sent_at, started_at), started_at)) AS sent,
                   extract(epoch FROM started_at) AS begun, extract(epoch FROM finished_at) AS run, written AS stored
            FROM jobs_job JOIN chaos_effect ON chaos_effect.job = jobs_job.id
            WHERE submitted_by LIKE '{submitted_by}'
              AND accepted_at BETWEEN to_timestamp({since}) AND to_timestamp({until})
        ), seconds AS (
            SELECT sent - accepted AS sent, begun - sent AS begun, run - begun AS run, stored - run AS stored FROM times
        )
        SELECT {", ".join(f"percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY {stage})" for stage in STAGES)}
        FROM seconds
    """
    ((*figures,),) = query(database, sql)
    return {stage: (float(p50), float(p95)) for stage, (p50, p95) in zip(STAGES, figures, strict=True)}
