"""/api/jobs/."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, inline_serializer
from rest_framework import serializers as s

from inference_portal.api.schemas.parts import DENIED, FULL, JOB_ID, UNKNOWN, WINE, Accepted, json, problem

JOB_CREATE: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "Submit a job",
    "request": inline_serializer(
        "JobCreate",
        {
            "model": s.CharField(),
            "version": s.CharField(required=False),
            "inputs": s.ListField(child=s.DictField(), required=False, help_text="V2 tensors; or:"),
            "rows": s.ListField(
                child=s.JSONField(), required=False, help_text="lists of numbers, or objects by column"
            ),
            "priority": s.ChoiceField(["high", "normal", "low"], required=False),
            "ttl_seconds": s.FloatField(required=False, help_text="not started by then: expired"),
            "ordering_key": s.CharField(required=False, max_length=255, help_text="one after the other"),
        },
    ),
    "examples": [
        OpenApiExample("one wine", {"model": "wine", "rows": [WINE]}, request_only=True),
        OpenApiExample(
            "worth nothing after a minute",
            {"model": "wine", "rows": [WINE], "priority": "high", "ttl_seconds": 60},
            request_only=True,
        ),
    ],
    "responses": {
        202: Accepted,
        400: problem("the body is not JSON"),
        **DENIED,
        **UNKNOWN,
        413: problem("too many bytes or rows"),
        415: problem("a content type that isn't read"),
        422: problem("the input doesn't fit the signature"),
        **FULL,
        503: problem("too many open jobs in all, or the database is away"),
    },
}
JOB_CANCEL: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "Cancel a job",
    "request": None,
    "responses": {
        202: json("cancelled", "cancelled", {"id": JOB_ID, "state": "cancelled"}),
        **DENIED,
        **UNKNOWN,
        409: problem("it has ended already"),
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
JOB_LIST: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "List jobs, newest first",
    "examples": [OpenApiExample("a job", _JOB, response_only=True)],
}
JOB_DETAIL: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "One job with its attempts",
    "examples": [OpenApiExample("a job", {**_JOB, "attempts": [_ATTEMPT]}, response_only=True)],
}
