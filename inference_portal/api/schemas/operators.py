"""What the OpenAPI page says about queues, workers and metrics."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from inference_portal.api.schemas.components import TEXT
from inference_portal.api.schemas.parts import ASKED, JOB_ID, JSON, OPERATORS_ONLY, json, problems

_EXPOSITION = """\
# HELP inference_oldest_wait_seconds How long the job has waited that has waited longest to start.
# TYPE inference_oldest_wait_seconds gauge
inference_oldest_wait_seconds{lane="cpu",pool="cpu"} 0.25
"""


def _watched(summary: str, responses: dict[Any, Any], **more: Any) -> dict[str, Any]:
    return {"tags": ["Operators"], "summary": summary, "parameters": ASKED, "responses": responses, **more}


QUEUES = _watched(
    "How much waits in each lane",
    {
        (200, JSON): json(
            "Queues",
            "one entry for each pool's lane, and one for its isolation lane",
            {
                "results": [
                    {
                        "lane": "cpu",
                        "pool": "cpu",
                        "isolated": False,
                        "rows": 1200,
                        "messages": 4,
                        "running": 512,
                        "retrying": 3,
                        "oldest_wait_seconds": 1.75,
                        "consumers": 2,
                        "rate": 870.5,
                        "dead_letters": 0,
                    }
                ]
            },
        ),
        **problems(OPERATORS_ONLY),
    },
    operation_id="queues",
    description="All from rows. `rows` are the jobs that wait here, `retrying` those of them that wait "
    "for another attempt; `messages` are the bundles that the broker or a worker has. `oldest_wait_seconds` is of the "
    "job that has waited longest to be started, `consumers` are the processes of live workers, `rate` the jobs a "
    "second that have ended lately, `dead_letters` those that were given up in this lane and wait for a person.",
)
WORKERS = _watched(
    "Who is at work, and at what",
    {
        (200, JSON): json(
            "Workers",
            "all that were heard within a day, the latest first",
            {
                "results": [
                    {
                        "name": "cpu@host",
                        "alive": True,
                        "seen_at": "2026-01-31T12:00:00.000000Z",
                        "host": "host",
                        "pools": ["cpu"],
                        "device": "cpu",
                        "processes": 2,
                        "models": ["breast_cancer:1", "wine:1"],
                        "problems": [],
                        "runs": [
                            {
                                "process": "cpu@host/4711",
                                "model": "wine",
                                "version": "1",
                                "jobs": 256,
                                "rows": 256,
                                "started_at": "2026-01-31T11:59:59.000000Z",
                                "job": JOB_ID,
                            }
                        ],
                    }
                ]
            },
        ),
        **problems(OPERATORS_ONLY),
    },
    operation_id="workers",
    description="From the workers' heartbeats: each comes every five seconds; who wasn't heard for 16 is not `alive`. "
    "`problems` are models that it should serve and can't. `runs` has an entry for each bundle that one of its "
    "processes has had in hand for longer than a quarter of a second, with the id of one of the jobs in it.",
)
METRICS = _watched(
    "Metrics for Prometheus",
    {
        (200, "text/plain"): OpenApiResponse(
            TEXT, "all metrics in the text format", [OpenApiExample("example", _EXPOSITION)]
        ),
        **problems({status: text for status, text in OPERATORS_ONLY.items() if status != 406}),
    },
    operation_id="metrics",
    description="Read from rows at each scrape. Open without a key where `METRICS_ADDRESS` says.",
)
