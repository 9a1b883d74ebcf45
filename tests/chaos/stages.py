"""Where the time of jobs went, stage by stage, from the times that the database has."""

from tests.chaos.evidence import query

# Until the dispatcher had sent it, on the way to the worker and back to the recorder, and while it ran.
STAGES = ("sent", "way", "run")


def stages(database: str, submitted_by: str, since: float, until: float) -> dict[str, tuple[float, float]]:
    """Return median and p95 in seconds of each stage, for the jobs that keys of such names submitted in that time.

    `submitted_by` is a pattern of SQL, the times are epoch seconds. A job's start is its end less the time that it ran,
    so that the two ways are one stage. A result may come before the dispatcher's note that it has sent the job: that
    one counts as begun when it was sent.
    """
    sql = f"""
        WITH times AS (
            SELECT extract(epoch FROM accepted_at) AS accepted,
                   extract(epoch FROM least(coalesce(sent_at, started_at), started_at)) AS sent,
                   extract(epoch FROM started_at) AS begun, extract(epoch FROM finished_at) AS ended
            FROM jobs_job
            WHERE submitted_by LIKE '{submitted_by}'
              AND accepted_at BETWEEN to_timestamp({since}) AND to_timestamp({until})
        ), seconds AS (
            SELECT sent - accepted AS sent, begun - sent AS way, ended - begun AS run FROM times WHERE ended IS NOT NULL
        )
        SELECT {", ".join(f"percentile_cont(ARRAY[0.5, 0.95]) WITHIN GROUP (ORDER BY {stage})" for stage in STAGES)}
        FROM seconds
    """
    ((*figures,),) = query(database, sql)
    return {stage: (float(p50), float(p95)) for stage, (p50, p95) in zip(STAGES, figures, strict=True)}
