"""What the OpenAPI page says about dead letters and parked messages."""

from typing import Any

from drf_spectacular.utils import OpenApiExample

from inference_portal.api.schemas.components import COUNT, FILTER, ref
from inference_portal.api.schemas.parts import (
    AGAIN,
    ASK_LATER,
    ASKED,
    BESIDE,
    CHALLENGE,
    CONTRADICTORY,
    FULL,
    JOB,
    JOB_ID,
    JSON,
    LOCATION,
    NAMED,
    OPERATORS_ONLY,
    PAGE,
    PATHS,
    UNREADABLE,
    at,
    json,
    problems,
    query,
)

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
    "title": "The state doesn't allow this",
    "status": 409,
    "detail": "The job is succeeded; only a dead letter can be replayed or discarded.",
    "instance": "/api/dead-letters/replay/",
    "retryable": False,
}


def _example(value: dict[str, Any]) -> list[OpenApiExample]:
    return [OpenApiExample("example", value, request_only=True)]


_TAGS = ["Dead letters"]
_UNKNOWN = {404: "there is no such dead letter"}
_TOO_LATE = {409: "it was replayed or discarded, or never was a dead letter"}
_WRONG_LIST = {400: "the cursor can't be read", 422: "a filter is wrong"}

DEAD_LETTER_LIST: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "List what was given up and waits, newest first",
    "operation_id": "dead_letters_list",
    "parameters": [
        query("model", FILTER, example="wine"),
        query("version", FILTER, example="1"),
        query("team", FILTER, "a team's name", "demo"),
        query("code", FILTER, "why it was given up", "worker-lost"),
        *PAGE,
        *ASKED,
    ],
    "responses": {
        (200, JSON): json("DeadLetter", "a page", _LETTER),
        **problems(OPERATORS_ONLY | _WRONG_LIST),
    },
}
DEAD_LETTER_DETAIL: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "One with attempts, tracebacks, input and what was done to it",
    "description": "`input` may be edited and posted to `replay/`; it is null when retention has removed it.",
    "operation_id": "dead_letters_detail",
    "parameters": [JOB, BESIDE, *ASKED],
    "responses": {
        (200, JSON): json(
            "DeadLetterDetail",
            "the dead letter",
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
        **problems(OPERATORS_ONLY | _UNKNOWN | CONTRADICTORY),
    },
}
REPLAY: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Try one again",
    "description": "The same job goes back into the queue as its next attempt. Without a body as it was; a version may "
    "be named, and another input given. The stored input goes to another version by its columns' names.",
    "operation_id": "dead_letters_replay",
    "parameters": [JOB, BESIDE, LOCATION, ASK_LATER, NAMED, AGAIN, CHALLENGE],
    "request": {JSON: ref("Replay")},
    "examples": _example({"version": "2"}),
    "responses": {
        (202, JSON): json("Accepted", "in the queue", PATHS),
        **problems(
            OPERATORS_ONLY
            | _UNKNOWN
            | _TOO_LATE
            | UNREADABLE
            | FULL
            | {422: "there is no such version, or the input doesn't fit it; the detail says what to send"}
        ),
    },
}
DISCARD: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Let one go",
    "description": "It leaves the list and stays dead-lettered.",
    "operation_id": "dead_letters_discard",
    "parameters": [JOB, BESIDE, *ASKED],
    "request": {JSON: ref("Discard")},
    "examples": _example({"reason": "the sensor was broken"}),
    "responses": {
        (200, JSON): json("DeadLetter", "off the list", _DISCARDED),
        **problems(OPERATORS_ONLY | _UNKNOWN | _TOO_LATE | UNREADABLE | {422: "the reason is missing or too long"}),
    },
}
BULK_REPLAY: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Try up to 1,000 again",
    "description": "One answer for each id, in their order: that of a replay or its problem, with its `status`.",
    "operation_id": "dead_letters_bulk_replay",
    "parameters": ASKED,
    "request": {JSON: ref("BulkReplay")},
    "examples": _example({"ids": [JOB_ID], "version": "2"}),
    "responses": {
        (200, JSON): json("BulkReplayAnswer", "an answer for each", {"results": [{"status": 202, **PATHS}, _CONFLICT]}),
        **problems(OPERATORS_ONLY | UNREADABLE | {422: "no ids, or too many"}),
    },
}
BULK_DISCARD: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Let up to 1,000 go",
    "description": "One answer for each id, in their order: that of a discard or its problem, with its `status`.",
    "operation_id": "dead_letters_bulk_discard",
    "parameters": ASKED,
    "request": {JSON: ref("BulkDiscard")},
    "examples": _example({"ids": [JOB_ID], "reason": "the sensor was broken"}),
    "responses": {
        (200, JSON): json(
            "BulkDiscardAnswer", "an answer for each", {"results": [{"status": 200, **_DISCARDED}, _CONFLICT]}
        ),
        **problems(OPERATORS_ONLY | UNREADABLE | {422: "no ids or too many, or no reason"}),
    },
}
MESSAGE_LIST: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "List the messages that nobody could read, newest first",
    "description": "`body` is its beginning as text; `headers` are the message's own and the broker's, as JSON.",
    "operation_id": "parked_messages_list",
    "parameters": [
        query("queue", FILTER, "where it was before the broker gave it up", "inference.cpu"),
        query("reason", FILTER, "why the broker gave it up", "rejected"),
        *PAGE,
        *ASKED,
    ],
    "responses": {
        (200, JSON): json("ParkedMessage", "a page", _MESSAGE),
        **problems(OPERATORS_ONLY | _WRONG_LIST),
    },
}
MESSAGE_DISCARD: dict[str, Any] = {
    "tags": _TAGS,
    "summary": "Let a message go",
    "operation_id": "parked_messages_discard",
    "parameters": [at("message_id", COUNT, "a message's number"), *ASKED],
    "request": {JSON: ref("Discard")},
    "examples": _example({"reason": "a test of the broker"}),
    "responses": {
        (200, JSON): json("ParkedMessage", "off the list", _MESSAGE | {"discarded_at": "2026-01-31T13:00:00.000000Z"}),
        **problems(
            OPERATORS_ONLY
            | UNREADABLE
            | {
                404: "there is no such message",
                409: "it was discarded before",
                422: "the reason is missing or too long",
            }
        ),
    },
}
