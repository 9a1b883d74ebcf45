"""/api/jobs/."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from inference_portal.api.schemas.components import FILTER, STATE, TIME, UUID, ref
from inference_portal.api.schemas.parts import (
    AGAIN,
    ASK_LATER,
    ASKED,
    BESIDE,
    CHALLENGE,
    CONTRADICTORY,
    DENIED,
    FULL,
    IDEMPOTENCY_KEY,
    INFERENCE_ID,
    JOB,
    JOB_ID,
    JSON,
    LOCATION,
    NAMED,
    PAGE,
    PATHS,
    UNKNOWN,
    UNREADABLE,
    WINE,
    answered,
    header,
    json,
    problems,
    query,
)

_EVENT = {"id": "1-running", "data": f'{{"Id": "{JOB_ID}", "Status": "Inference", "State": "running"}}'}
_TAKEN = {
    (202, JSON): json("Accepted", "accepted; Location, StatusPath and ResultPath say where to look", PATHS),
    **problems(
        DENIED
        | UNREADABLE
        | FULL
        | {
            404: "there is no such model or version",
            422: "the input doesn't fit the signature, the file isn't there, or the id was used for another request",
        }
    ),
}
_EXAMPLES = [
    OpenApiExample("one wine", {"model": "wine", "rows": [WINE]}, request_only=True),
    OpenApiExample(
        "worth nothing after a minute",
        {"model": "wine", "rows": [WINE], "priority": "high", "ttl_seconds": 60},
        request_only=True,
    ),
    OpenApiExample(
        "may be sent twice, and be found again",
        {"model": "wine", "rows": [WINE], "idempotency_key": "order-4711", "labels": ["orders"]},
        request_only=True,
    ),
    OpenApiExample(
        "a file that was uploaded",
        {"model": "wine", "input_uri": "store://uploads/1/317accd6-42ad-4891-aefc-66ab58a9675c/wines.csv.gz"},
        request_only=True,
    ),
]
JOB_CREATE: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "Submit a job",
    "operation_id": "jobs_create",
    "parameters": [IDEMPOTENCY_KEY, INFERENCE_ID, LOCATION, ASK_LATER, NAMED, AGAIN, CHALLENGE],
    "request": {JSON: ref("JobCreate")},
    "examples": _EXAMPLES,
    "responses": _TAKEN,
}
JOB_PUT: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "Submit a job under an id of one's own",
    "description": "The id is a UUID that the client has chosen. Sent again with the same body, it is the same job.",
    "operation_id": "jobs_put",
    "parameters": [JOB, BESIDE, IDEMPOTENCY_KEY, LOCATION, ASK_LATER, NAMED, AGAIN, CHALLENGE],
    "request": {JSON: ref("JobCreate")},
    "examples": _EXAMPLES[:1],
    "responses": _TAKEN,
}
JOB_BULK: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "Submit up to 1,000 jobs",
    "description": "One answer for each job, in their order: that of a submission or its problem, with its `status`. "
    "What is wrong with one doesn't stop the others.",
    "operation_id": "jobs_bulk",
    "parameters": ASKED,
    "request": {JSON: ref("JobBulk")},
    "examples": [OpenApiExample("two wines", {"jobs": [{"model": "wine", "rows": [WINE]}] * 2}, request_only=True)],
    "responses": {
        (200, JSON): json("JobBulkAnswer", "an answer for each", {"results": [{"status": 202, **PATHS}] * 2}),
        **problems(DENIED | UNREADABLE | {422: "no jobs, or too many"}),
    },
}
JOB_RERUN: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "Run a job again that ended without a result",
    "description": "The same job goes back into the queue as its next attempt; a version may be named.",
    "operation_id": "jobs_rerun",
    "parameters": [JOB, BESIDE, LOCATION, ASK_LATER, NAMED, AGAIN, CHALLENGE],
    "request": {JSON: ref("Rerun")},
    "examples": [OpenApiExample("with another version", {"version": "2"}, request_only=True)],
    "responses": {
        (202, JSON): json("Accepted", "in the queue", PATHS),
        **problems(
            DENIED
            | UNKNOWN
            | UNREADABLE
            | FULL
            | {
                409: "it is open, has succeeded, or was discarded",
                422: "there is no such version, or the job's input doesn't fit it or was removed",
            }
        ),
    },
}
JOB_RECEIPT: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "What made the result",
    "description": "`input_sha256` is that of the decoded rows: little-endian float32, row by row, in the order of the "
    "signature. The receipt outlives the result.",
    "operation_id": "jobs_receipt",
    "parameters": [JOB, BESIDE, *ASKED],
    "responses": {
        (200, JSON): json(
            "Receipt",
            "the receipt",
            {
                "id": JOB_ID,
                "model": "wine",
                "version": "1",
                "model_sha256": "0" * 64,
                "input_sha256": "0" * 64,
                "rows": 1,
                "libraries": {"xgboost": "3.2.0", "numpy": "2.4.6"},
                "device": "cpu",
                "worker": "cpu@host/4711",
                "host": "host",
                "attempt": 1,
                "accepted_at": "2026-01-31T12:00:00.000000Z",
                "queued_at": "2026-01-31T12:00:00.001000Z",
                "started_at": "2026-01-31T12:00:00.010000Z",
                "finished_at": "2026-01-31T12:00:00.012000Z",
            },
        ),
        **problems(DENIED | UNKNOWN | CONTRADICTORY | {409: "it has no result"}),
    },
}
JOB_EVENTS: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "Follow a job",
    "description": "Server-sent events: the status now, then each change that is seen, and the end with the final one. "
    "Who reconnects after the end, with `Last-Event-ID`, gets 204.",
    "operation_id": "jobs_events",
    "parameters": [
        JOB,
        BESIDE,
        header("Last-Event-ID", {"type": "string"}, "as browsers send it by themselves", "1-succeeded"),
        answered("X-Inference-Id", [200], UUID, "the job's id"),
        *ASKED,
    ],
    "responses": {
        # OpenAPI 3.1 has no words for a stream: this is one event of it.
        (200, "text/event-stream"): json("Event", "events, each of them like this", _EVENT),
        204: OpenApiResponse(None, "the client has seen the end"),
        **problems(
            DENIED | UNKNOWN | CONTRADICTORY | {503: "all places for streams are taken, or the database is away"}
        ),
    },
}
_JOB = {
    "id": JOB_ID,
    "team": "demo",
    "submitted_by": "key demo",
    "model": "wine",
    "version": "1",
    "state": "succeeded",
    "priority": "normal",
    "ordering_key": "",
    "labels": [],
    "attempt": 1,
    "failures": 0,
    "isolated": False,
    "rows": 1,
    "accepted_at": "2026-01-31T12:00:00.000000Z",
    "queued_at": "2026-01-31T12:00:00.001000Z",
    "expires_at": None,
    "started_at": "2026-01-31T12:00:00.010000Z",
    "finished_at": "2026-01-31T12:00:00.012000Z",
    "purged_at": None,
    "worker": "cpu@host/4711",
    "host": "host",
    "device": "cpu",
    "error": None,
    "status_path": f"/status/wine/{JOB_ID}",
    "result_path": f"/result/wine/{JOB_ID}",
}
_ATTEMPT = {
    "number": 1,
    "worker": "cpu@host/4711",
    "host": "host",
    "device": "cpu",
    "started_at": "2026-01-31T12:00:00.010000Z",
    "finished_at": "2026-01-31T12:00:00.012000Z",
    "code": "succeeded",
    "message": "",
}
_CANCELLED = _JOB | {"state": "cancelled", "started_at": None, "worker": "", "host": "", "device": ""}
JOB_CANCEL: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "Cancel a job",
    "operation_id": "jobs_cancel",
    "parameters": [JOB, BESIDE, *ASKED],
    "request": None,
    "responses": {
        (202, JSON): json(
            "Job", "cancelled", _CANCELLED | {"error": {"code": "cancelled", "message": "cancelled on request"}}
        ),
        **problems(DENIED | UNKNOWN | CONTRADICTORY | {409: "it has ended already"}),
    },
}
JOB_LIST: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "List jobs, newest first",
    "operation_id": "jobs_list",
    "parameters": [
        query("state", STATE, example="succeeded"),
        query("model", FILTER, example="wine"),
        query("version", FILTER, example="1"),
        query("label", FILTER, "jobs that carry this label", "orders"),
        query("created_after", TIME, "and at that time", "2026-01-31T12:00:00Z"),
        query("created_before", TIME, example="2027-01-31T12:00:00Z"),
        *PAGE,
        *ASKED,
    ],
    "responses": {
        (200, JSON): json("Job", "a page", _JOB),
        **problems(DENIED | {400: "the cursor or a time can't be read", 422: "a filter is wrong"}),
    },
}
JOB_DETAIL: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "One job with its attempts",
    "operation_id": "jobs_detail",
    "parameters": [JOB, BESIDE, *ASKED],
    "responses": {
        (200, JSON): json(
            "JobDetail",
            "the job",
            {**_JOB, "idempotency_key": "", "sink": "", "attempts": [_ATTEMPT], "deliveries": []},
        ),
        **problems(DENIED | UNKNOWN | CONTRADICTORY),
    },
}
