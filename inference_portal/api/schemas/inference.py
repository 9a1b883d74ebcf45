"""Predict, status, result. What is said of a version counts only where the path has one."""

import json as text
from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from inference_portal.api.schemas.components import BINARY, COUNT, PRIORITY, UUID, Schema, ref
from inference_portal.api.schemas.parts import (
    AGAIN,
    ASKED,
    BESIDE,
    CHALLENGE,
    DENIED,
    FULL,
    IDEMPOTENCY_KEY,
    INFERENCE_ID,
    JOB,
    JOB_ID,
    JSON,
    MODEL,
    ORDERING_KEY,
    PATHS,
    SINK,
    UNKNOWN,
    UNREADABLE,
    VERSION,
    WAIT,
    WEBHOOK,
    WINE,
    Responses,
    answered,
    at,
    header,
    json,
    problems,
)
from workers.formats import media
from workers.formats.v2_binary import HEADER

_V2_ANSWER = {
    "model_name": "wine",
    "model_version": "1",
    "id": JOB_ID,
    "outputs": [
        {"name": "probability", "datatype": "FP32", "shape": [1, 3], "data": [0.997, 0.0014, 0.0013]},
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["class_0"]},
    ],
}
_PREDICTIONS = {"predictions": [{"probability": [0.997, 0.0014, 0.0013], "label": "class_0"}]}
_ANSWER_CSV = "probability_0,probability_1,probability_2,label\r\n0.997,0.0014,0.0013,class_0\r\n"
_V2_REQUEST = {"inputs": [{"name": "table", "shape": [1, 13], "datatype": "FP32", "data": WINE}]}
_STATUS = {
    "Id": JOB_ID,
    "Status": "Completed",
    "State": "succeeded",
    "Error": None,
    "Attempts": 1,
    "QueuePosition": None,
    "QueuedAt": "2026-01-31T12:00:00.001Z",
    "StartedAt": "2026-01-31T12:00:00.010Z",
    "FinishedAt": "2026-01-31T12:00:00.012Z",
    "QueueSeconds": 0.009,
    "RunSeconds": 0.002,
}
_CODING: Schema = {"type": "string", "enum": ["identity", "gzip", "deflate", "zstd"]}
_TABLES = tuple(kind for kind in media.TABLES if kind != media.CSV)
# What the endpoint answers with.
_ALL = [200, 202, 400, 401, 403, 404, 406, 409, 410, 413, 415, 422, 429, 502, 503, 504]
# Where a job's end is answered.
_ENDS = {
    409: "cancelled",
    410: "expired before a worker could start it, or fire and forget: its result is not kept",
    422: "the model refused the data",
    502: "the model failed, or the job was given up",
}


def _result(description: str) -> Responses:
    """Describe a result in each of its types."""
    return {
        (200, JSON): OpenApiResponse(
            {"anyOf": [ref("Predictions"), ref("V2Answer")]},
            description,
            [OpenApiExample("instances", _PREDICTIONS), OpenApiExample("V2", _V2_ANSWER)],
        ),
        (200, media.CSV): OpenApiResponse({"type": "string"}, description, [OpenApiExample("CSV", _ANSWER_CSV)]),
        (200, media.BINARY, *_TABLES): OpenApiResponse(BINARY, description),
    }


_RESULT_LENGTH = answered(HEADER, [200], COUNT, "binary tensors follow the JSON, whose length this is", required=False)

INFER: dict[str, Any] = {
    "tags": ["Inference"],
    "summary": "Predict",
    "description": "V2 tensors, plain instances or a table in, the same out, or what `Accept` asks for. The Prefer "
    "header says who waits.\n\nThe answer to `respond-async-proxy` is a 202 without body and Location; "
    "that to `respond-async-container` is the container's own, whatever its status and type.",
    "parameters": [
        MODEL,
        VERSION,
        header(
            "Prefer",
            {"type": "string"},
            "`respond-async`: 202 at once; `wait=N`: wait N seconds at most; both: wait, then 202; "
            "`respond-async-proxy`: fire and forget; `respond-async-container`: relayed at once to the model's own "
            "container; what isn't ours a container gets to see",
            "respond-async, wait=5",
        ),
        INFERENCE_ID,
        IDEMPOTENCY_KEY,
        header("X-Inference-Priority", PRIORITY, "among the jobs of one's own team", "high"),
        header(
            "X-Inference-Ttl",
            {"type": "string", "pattern": "^[0-9]{1,10}(\\.[0-9]{1,9})?$"},
            "seconds, above 0, at most 2592000; a job that no worker has started by then expires",
            "60",
        ),
        ORDERING_KEY,
        WEBHOOK,
        SINK,
        header("Content-Encoding", _CODING, "how the body is compressed"),
        header(HEADER, COUNT, "binary tensors follow the JSON, whose length this is"),
        answered("X-Inference-Id", _ALL, UUID, "the job's id"),
        answered("Vary", _ALL, {"type": "string"}, "Prefer, Accept"),
        answered("Preference-Applied", [200, 202, 504], {"type": "string"}, "what of Prefer counted", required=False),
        answered("Location", [202], {"type": "string"}, "the ResultPath", required=False),
        answered("Location", [504], {"type": "string"}, "the ResultPath"),
        answered("Retry-After", [202, 504], COUNT, "in how many seconds it's worth asking for the result"),
        _RESULT_LENGTH,
        AGAIN,
        CHALLENGE,
    ],
    "request": {JSON: ref("InferRequest"), media.CSV: {"type": "string"}, media.BINARY: BINARY}
    | dict.fromkeys(_TABLES, BINARY),
    "examples": [
        OpenApiExample("instances as rows", {"instances": [WINE]}, request_only=True, media_type=JSON),
        OpenApiExample("V2, one tensor", _V2_REQUEST, request_only=True, media_type=JSON),
        OpenApiExample("V2 without a type", text.dumps(_V2_REQUEST), request_only=True, media_type=media.BINARY),
        OpenApiExample(
            "CSV",
            "alcohol,malic_acid,ash,alcalinity_of_ash,magnesium,total_phenols,flavanoids,nonflavanoid_phenols,"
            "proanthocyanins,color_intensity,hue,od280/od315_of_diluted_wines,proline\n" + ",".join(map(str, WINE)),
            request_only=True,
            media_type=media.CSV,
        ),
    ],
    "responses": {
        **_result("the result"),
        (202, JSON): json("Accepted", "accepted; Location, StatusPath and ResultPath say where to look", PATHS),
        **problems(
            _ENDS
            | DENIED
            | UNKNOWN
            | UNREADABLE
            | FULL
            | {
                422: "the input doesn't fit the signature (`errors` names field and row), the id was used for another "
                "request, or the model refused the data",
                503: "no place to wait, too many open jobs in all, or the database is away",
                504: "the wait is over; the job goes on at Location",
            },
            "V2Problem",
        ),
    },
}

_ANY_ID = at("job_id", {"type": "string"}, "a job's id")
_BY_HEADER = header("X-Inference-Id", UUID, "the job's id", required=True)
_UNCLEAR = {400: "`wait` is not a number, the id is missing, or path and header contradict each other"}
_STATUS_OF: dict[str, Any] = {
    "tags": ["Inference"],
    "summary": "Status of a job",
    "responses": {
        (200, JSON): json("Status", "the status", _STATUS),
        **problems(_UNCLEAR | DENIED | UNKNOWN),
    },
}
_STATUS_HEADERS = [answered("X-Inference-Id", [200], UUID, "the job's id"), *ASKED]
STATUS = _STATUS_OF | {"operation_id": "status", "parameters": [MODEL, _ANY_ID, WAIT, BESIDE, *_STATUS_HEADERS]}
STATUS_BY_HEADER = _STATUS_OF | {
    "operation_id": "status_by_header",
    "parameters": [MODEL, WAIT, _BY_HEADER, *_STATUS_HEADERS],
}
JOB_STATUS = _STATUS_OF | {
    "tags": ["Jobs"],
    "operation_id": "job_status",
    "parameters": [JOB, WAIT, BESIDE, *_STATUS_HEADERS],
}

_RESULT_OF: dict[str, Any] = {
    "tags": ["Inference"],
    "summary": "Result of a job",
    "responses": {
        **_result("the result, in the type of the request or the accepted one"),
        (202, JSON): json("Accepted", "still open; ask again after Retry-After seconds", PATHS),
        **problems(
            _UNCLEAR
            | DENIED
            | UNKNOWN
            | _ENDS
            | {410: "it expired, its result is not kept (open or succeeded), or retention has removed it"}
        ),
    },
}
_RESULT_HEADERS = [
    answered("X-Inference-Id", [200, 202, 409, 410, 422, 502], UUID, "the job's id"),
    answered("Location", [202], {"type": "string"}, "the ResultPath"),
    answered("Retry-After", [202], COUNT, "in how many seconds it's worth asking again"),
    _RESULT_LENGTH,
    *ASKED,
]
RESULT = _RESULT_OF | {"operation_id": "result", "parameters": [MODEL, _ANY_ID, WAIT, BESIDE, *_RESULT_HEADERS]}
RESULT_BY_HEADER = _RESULT_OF | {
    "operation_id": "result_by_header",
    "parameters": [MODEL, WAIT, _BY_HEADER, *_RESULT_HEADERS],
}
JOB_RESULT = _RESULT_OF | {
    "tags": ["Jobs"],
    "operation_id": "job_result",
    "parameters": [JOB, WAIT, BESIDE, *_RESULT_HEADERS],
}
