"""What the OpenAPI page says about dead letters and parked messages."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers as s

from inference_portal.api.schemas.parts import JOB_ID, Accepted, json, problem

_PATHS = {"Id": JOB_ID, "StatusPath": f"/status/wine/{JOB_ID}", "ResultPath": f"/result/wine/{JOB_ID}"}
_LETTER = {
    "id": JOB_ID,
    "team": "demo",
    "submitted_by": "key demo",
    "model": "wine",
    "version": "1",
    "rows": 1,
    "attempt": 4,
    "isolated": True,
    "reason": {"code": "worker-lost", "message": "the process that ran it died (signal 11)"},
    "worker": "cpu@host/4711",
    "accepted_at": "2026-01-31T12:00:00.000000Z",
    "finished_at": "2026-01-31T12:00:09.000000Z",
    "discarded_at": None,
}
_DISCARDED = _LETTER | {"discarded_at": "2026-01-31T13:00:00.000000Z"}
_MESSAGE = {
    "id": 7,
    "received_at": "2026-01-31T12:00:00.000000Z",
    "queue": "inference.cpu",
    "reason": "rejected",
    "error": "UnreadableMessage: not a bundle but 'something else'",
    "headers": '{"task": "something else"}',
    "body": "[[], {}, {}]",
    "size": 12,
    "discarded_at": None,
}
_CONFLICT = {
    "type": "/problems/conflict",
    "title": "The job's state doesn't allow this",
    "status": 409,
    "detail": "The job is succeeded; only a dead letter can be replayed or discarded.",
    "instance": "/api/dead-letters/replay/",
    "retryable": False,
}


def _example(value: dict[str, Any]) -> list[OpenApiExample]:
    return [OpenApiExample("example", value, request_only=True)]


_TAGS = ["Dead letters"]
_REFUSED = {401: problem("no key, or one that doesn't work"), 403: problem("not an operator")}
_UNKNOWN = {404: problem("there is no such dead letter")}
_TOO_LATE = {409: problem("it was replayed or discarded, or never was a dead letter")}
_IDS = s.ListField(child=s.UUIDField(), max_length=1_000)
_REASON = s.CharField(max_length=1_000)
_INPUTS = s.ListField(child=s.DictField(), required=False, help_text="another input as V2 tensors; or:")
_ROWS = s.ListField(child=s.JSONField(), required=False, help_text="as lists of numbers, or objects by column")
_VERSION = s.CharField(required=False, help_text="another version of the model")

DEAD_LETTER_LIST: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "List what was given up and waits, newest first",
    "parameters": [
        OpenApiParameter("model", str),
        OpenApiParameter("version", str),
        OpenApiParameter("team", str, description="a team's name"),
        OpenApiParameter("code", str, description="why it was given up, such as `worker-lost`"),
    ],
    "examples": [OpenApiExample("a dead letter", _LETTER, response_only=True)],
}
DEAD_LETTER_DETAIL: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "One with attempts, tracebacks, input and what was done to it",
    "description": "`input` may be edited and posted to `replay/`; it is null when retention has removed it.",
    "responses": {
        200: json(
            "the dead letter",
            "example",
            _LETTER
            | {
                "attempts": [
                    {
                        "number": 4,
                        "worker": "cpu@host/4711",
                        "device": "cpu",
                        "started_at": "2026-01-31T12:00:08.000000Z",
                        "finished_at": "2026-01-31T12:00:09.000000Z",
                        "code": "worker-lost",
                        "message": "the process that ran it died (signal 11)",
                        "host": "host",
                        "traceback": "",
                    }
                ],
                "input": {"rows": [{"alcohol": 14.23, "malic_acid": None}]},
                "audit": [],
            },
        ),
        **_REFUSED,
        **_UNKNOWN,
    },
}
REPLAY: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Try one again",
    "description": "The same job goes back into the queue as its next attempt. Without a body as it was; a version may "
    "be named, and another input given. The stored input goes to another version by its columns' names.",
    "operation_id": "dead_letters_replay",
    "request": inline_serializer("Replay", {"version": _VERSION, "inputs": _INPUTS, "rows": _ROWS}),
    "examples": _example({"version": "2"}),
    "responses": {
        202: OpenApiResponse(Accepted, "in the queue", [OpenApiExample("example", _PATHS)]),
        400: problem("the body is not JSON"),
        **_REFUSED,
        **_UNKNOWN,
        **_TOO_LATE,
        413: problem("too many bytes or rows"),
        422: problem("there is no such version, or the input doesn't fit it; the detail says what to send"),
    },
}
DISCARD: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Let one go",
    "description": "It leaves the list and stays dead-lettered.",
    "operation_id": "dead_letters_discard",
    "request": inline_serializer("Discard", {"reason": _REASON}),
    "examples": _example({"reason": "the sensor was broken"}),
    "responses": {
        200: json("off the list", "example", _DISCARDED),
        400: problem("the body is not JSON"),
        **_REFUSED,
        **_UNKNOWN,
        **_TOO_LATE,
        422: problem("the reason is missing or too long"),
    },
}
BULK_REPLAY: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Try up to 1,000 again",
    "description": "One answer for each id, in their order: that of a replay or its problem, with its `status`.",
    "operation_id": "dead_letters_bulk_replay",
    "request": inline_serializer("BulkReplay", {"ids": _IDS, "version": _VERSION}),
    "examples": _example({"ids": [JOB_ID], "version": "2"}),
    "responses": {
        200: json("an answer for each", "example", {"results": [{"status": 202, **_PATHS}, _CONFLICT]}),
        400: problem("the body is not JSON"),
        **_REFUSED,
        422: problem("no ids, or too many"),
    },
}
BULK_DISCARD: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Let up to 1,000 go",
    "description": "One answer for each id, in their order: that of a discard or its problem, with its `status`.",
    "operation_id": "dead_letters_bulk_discard",
    "request": inline_serializer("BulkDiscard", {"ids": _IDS, "reason": _REASON}),
    "examples": _example({"ids": [JOB_ID], "reason": "the sensor was broken"}),
    "responses": {
        200: json("an answer for each", "example", {"results": [{"status": 200, **_DISCARDED}, _CONFLICT]}),
        400: problem("the body is not JSON"),
        **_REFUSED,
        422: problem("no ids or too many, or no reason"),
    },
}
MESSAGE_LIST: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "List the messages that nobody could read, newest first",
    "description": "`body` is its beginning as text; `headers` are the message's own and the broker's, as JSON.",
    "operation_id": "parked_messages_list",
    "parameters": [
        OpenApiParameter("queue", str, description="where it was before the broker gave it up"),
        OpenApiParameter("reason", str, description="why the broker gave it up"),
    ],
    "examples": [OpenApiExample("a message", _MESSAGE, response_only=True)],
}
MESSAGE_DISCARD: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Let a message go",
    "operation_id": "parked_messages_discard",
    "request": inline_serializer("MessageDiscard", {"reason": _REASON}),
    "examples": _example({"reason": "a test of the broker"}),
    "responses": {
        200: json("off the list", "example", _MESSAGE | {"discarded_at": "2026-01-31T13:00:00.000000Z"}),
        400: problem("the body is not JSON"),
        **_REFUSED,
        404: problem("there is no such message"),
        409: problem("it was discarded before"),
        422: problem("the reason is missing or too long"),
    },
}
