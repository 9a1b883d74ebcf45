"""/api/uploads/ and /api/batches/."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from inference_portal.api.schemas.components import (
    BATCH_STATE,
    BINARY,
    CHUNK_STATE,
    COUNT,
    FILTER,
    UUID,
    ref,
)
from inference_portal.api.schemas.parts import (
    AGAIN,
    ASKED,
    CHALLENGE,
    DENIED,
    JOB_ID,
    JSON,
    PAGE,
    UNKNOWN,
    UNREADABLE,
    answered,
    at,
    header,
    json,
    problems,
    query,
)

_FORM = "multipart/form-data"
_BATCH_AT = at("batch_id", UUID, "a batch's id")
_ID = "5b1f6c9e-4a39-4a57-9f0c-0d9be7d3c0a4"
_UPLOADED = {
    "uri": "store://uploads/1/0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11/wines.parquet",
    "bytes": 4_711,
    "sha256": "0" * 64,
}
_TIME = "2026-01-31T12:00:00.000000Z"
_BATCH = {
    "id": _ID,
    "team": "demo",
    "submitted_by": "key demo",
    "model": "wine",
    "version": "1",
    "model_sha256": "0" * 64,
    "state": "running",
    "note": "",
    "input": {"uri": _UPLOADED["uri"], "format": "auto"},
    "output": {"uri": None, "format": "parquet"},
    "keep_columns": ["id"],
    "chunk_rows": 250_000,
    "retry_policy": "partial",
    "max_attempts": 3,
    "error_threshold": 0.01,
    "deadline": "2026-02-01T05:00:00Z",
    "at_risk": False,
    "eta": "2026-01-31T12:05:00Z",
    "attempts": 1,
    "rows_total": 5_000_000,
    "rows_done": 1_200_000,
    "rows_failed": 17,
    "rows_per_second": 12_711.86,
    "seconds_left": 298.9,
    "chunks": {"total": 50, "done": 12},
    "created_at": _TIME,
    "started_at": "2026-01-31T12:00:01.000000Z",
    "finished_at": None,
    "error": None,
    "schedule": None,
    "due_at": None,
    "purged_at": None,
}
_DETAIL = _BATCH | {"receipt": None, "carried": None, "history": []}
_CREATED = _DETAIL | {
    "state": "queued", "eta": None, "rows_total": None, "rows_done": 0, "rows_failed": 0, "started_at": None,
    "rows_per_second": None, "seconds_left": None,
    "chunks": {"total": 0, "done": 0},
}  # fmt: skip
_CANCELLED = _DETAIL | {"state": "cancelled", "finished_at": "2026-01-31T12:01:00.000000Z", "eta": None}
_CANCELLED |= {"rows_per_second": None, "seconds_left": None}
_CHUNK = {
    "number": 3,
    "first_row": 300_000,
    "rows": 100_000,
    "attempt": 1,
    "state": "done",
    "rows_failed": 17,
    "reason": "",
    "job": JOB_ID,
}
_EVENT = {"id": "1-running-1200000-17-12-0", "data": f'{{"id": "{_ID}", "state": "running", "rows_done": 1200000}}'}
_NOT_THERE = {
    404: UNKNOWN[404],
    409: "it isn't there yet, or the batch ended without one",
    410: "it was removed when it grew old",
}
_AWAY = {503: "the database or the storage is away, or the storage is full"}

UPLOAD: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "Upload a data set",
    "description": "A form with one file, in the field `file`; Parquet, CSV (also .gz and .zst) or Arrow. It is "
    "streamed into the storage and appears there whole or not at all; `uri` is what a batch's `input` takes.",
    "operation_id": "uploads_create",
    "parameters": ASKED,
    "request": {
        _FORM: {
            "type": "object",
            "properties": {"file": BINARY},
            "required": ["file"],
            "additionalProperties": False,
        }
    },
    "examples": [
        OpenApiExample("a small one", {"file": "alcohol,hue\n14.23,1.04\n"}, media_type=_FORM, request_only=True)
    ],
    "responses": {
        (201, JSON): json("Uploaded", "stored", _UPLOADED),
        **problems(
            DENIED
            | {
                400: "the body is not a whole form",
                413: "the file has more bytes than MAX_UPLOAD_BYTES allows",
                415: "the body is no form",
                422: "there is no file in it, or something else",
            }
            | _AWAY
        ),
    },
}
BATCH_CREATE: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "Run a model over a data set",
    "description": "The data set is split into chunks of about `chunk_rows` rows, which the workers of the pool "
    "`batch` predict; the output has the input's order, and appears whole or not at all. A row that can't be predicted "
    "has null there, and a line in `errors/`. The run keeps the version that it began with.",
    "operation_id": "batches_create",
    "parameters": [answered("Location", [202], {"type": "string"}, "the batch's path"), AGAIN, CHALLENGE],
    "request": {JSON: ref("BatchCreate")},
    "examples": [
        OpenApiExample("an upload", {"model": "wine", "input": {"uri": _UPLOADED["uri"]}}, request_only=True),
        OpenApiExample(
            "files on a shared disk, done by the morning",
            {
                "model": "wine",
                "version": "1",
                "input": {"uri": "file:///data/wines", "format": "csv", "delimiter": ";"},
                "output": {"uri": "file:///data/predicted.csv", "format": "csv"},
                "keep_columns": ["id"],
                "error_threshold": 0.01,
                "deadline": "2027-01-31T06:00:00+01:00",
            },
            request_only=True,
        ),
    ],
    "responses": {
        (202, JSON): json("BatchDetail", "accepted", _CREATED),
        **problems(
            DENIED
            | UNREADABLE
            | _AWAY
            | {
                404: "there is no such model or version",
                422: "a field is wrong; 'errors' names each",
                429: "the team has as many open batches as it may",
            }
        ),
    },
}
BATCH_LIST: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "List batches, newest first",
    "operation_id": "batches_list",
    "parameters": [
        query("state", BATCH_STATE, example="running"),
        query("model", FILTER, example="wine"),
        *PAGE,
        *ASKED,
    ],
    "responses": {
        (200, JSON): json("Batch", "a page", _BATCH),
        **problems(DENIED | {400: "the cursor can't be read", 422: "a filter is wrong"}),
    },
}
BATCH_DETAIL: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "One batch: how far it is, and what made its output",
    "operation_id": "batches_detail",
    "parameters": [_BATCH_AT, *ASKED],
    "responses": {(200, JSON): json("BatchDetail", "the batch", _DETAIL), **problems(DENIED | UNKNOWN)},
}
BATCH_CHANGE: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "Change a batch's retry policy or deadline while it is open",
    "operation_id": "batches_change",
    "parameters": [_BATCH_AT, *ASKED],
    "request": {JSON: ref("BatchChange")},
    "examples": [OpenApiExample("an hour more", {"deadline": "2027-02-01T06:00:00Z"}, request_only=True)],
    "responses": {
        (200, JSON): json("BatchDetail", "changed", _DETAIL),
        **problems(DENIED | UNKNOWN | UNREADABLE | {409: "it has ended", 422: "a field is wrong"}),
    },
}
CHUNK_LIST: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "A batch's chunks, in the order of their rows",
    "operation_id": "batches_chunks",
    "parameters": [_BATCH_AT, query("state", CHUNK_STATE, example="failed"), *PAGE, *ASKED],
    "responses": {
        (200, JSON): json("Chunk", "a page", _CHUNK),
        **problems(DENIED | UNKNOWN | {400: "the cursor can't be read", 422: "a filter is wrong"}),
    },
}
BATCH_EVENTS: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "Follow a batch",
    "description": "Server-sent events: the batch now, then each change of its state and its progress, and the end "
    "with a final state. Who reconnects after the end, with `Last-Event-ID`, gets 204.",
    "operation_id": "batches_events",
    "parameters": [
        _BATCH_AT,
        header("Last-Event-ID", {"type": "string"}, "as browsers send it by themselves", _EVENT["id"]),
        *ASKED,
    ],
    "responses": {
        # OpenAPI 3.1 has no words for a stream: this is one event of it.
        (200, "text/event-stream"): json("BatchEvent", "events, each of them like this", _EVENT),
        204: OpenApiResponse(None, "the client has seen the end"),
        **problems(DENIED | UNKNOWN | {503: "all places for streams are taken, or the database is away"}),
    },
}
_FILE_HEADERS = [
    answered("Content-Disposition", [200], {"type": "string"}, "its name"),
    answered("Content-Length", [200], COUNT, "its bytes"),
    answered("ETag", [200], {"type": "string"}, "its sha256"),
]
_PARQUET = "application/vnd.apache.parquet"
BATCH_OUTPUT: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "Download a batch's output",
    "description": "The columns to keep, then the predictions, in the input's order. A `Range` of bytes is answered "
    "with 206, so that a download can be taken up again.",
    "operation_id": "batches_output",
    "parameters": [
        _BATCH_AT,
        header("Range", {"type": "string"}, "one range of bytes", "bytes=0-1023"),
        *_FILE_HEADERS,
        *ASKED,
    ],
    "responses": {
        (200, _PARQUET): OpenApiResponse(BINARY, "the file"),
        (200, "text/csv"): OpenApiResponse(
            {"type": "string"}, "the file", [OpenApiExample("example", "id,probability\n1,0.5\n")]
        ),
        (206, "application/octet-stream"): OpenApiResponse(BINARY, "the part that was asked for"),
        **problems(DENIED | _NOT_THERE | _AWAY | {416: "the file has no such bytes"}),
    },
}
BATCH_ERRORS: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "The rows that failed, with the reason",
    "description": "A CSV file with `row` (from 0, in the whole data set), `column` and `reason`; the first 1,000 of "
    "them as JSON by `Accept: application/json`.",
    "operation_id": "batches_errors",
    "parameters": [_BATCH_AT, *ASKED],
    "responses": {
        (200, "text/csv"): OpenApiResponse(
            {"type": "string"}, "all of them", [OpenApiExample("example", "row,column,reason\n7,hue,not a number\n")]
        ),
        (200, JSON): json(
            "RowErrors",
            "the first 1,000",
            {"results": [{"row": 7, "column": "hue", "reason": "not a number"}], "more": False},
        ),
        **problems(DENIED | _NOT_THERE | _AWAY),
    },
}
BATCH_CANCEL: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "Cancel a batch",
    "operation_id": "batches_cancel",
    "parameters": [_BATCH_AT, *ASKED],
    "request": None,
    "responses": {
        (202, JSON): json("BatchDetail", "cancelled", _CANCELLED),
        **problems(DENIED | UNKNOWN | {409: "it has ended already"}),
    },
}
BATCH_RERUN: dict[str, Any] = {
    "tags": ["Batches"],
    "summary": "Run a batch again that has ended",
    "description": "With the policy `all` everything runs again; with `partial`, which is the default, only what isn't "
    "done. A deadline that has passed is dropped.",
    "operation_id": "batches_rerun",
    "parameters": [_BATCH_AT, AGAIN, CHALLENGE],
    "request": {JSON: ref("BatchRerun")},
    "examples": [OpenApiExample("all of it", {"retry_policy": "all"}, request_only=True)],
    "responses": {
        (202, JSON): json("BatchDetail", "under way again", _DETAIL),
        **problems(
            DENIED
            | UNKNOWN
            | UNREADABLE
            | {
                409: "it is open, or there is nothing that failed",
                422: "a field is wrong",
                429: "the team has as many open batches as it may",
            }
        ),
    },
}
