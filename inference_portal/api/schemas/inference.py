"""Predict, status, result."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers as s

from inference_portal.api.schemas.parts import DENIED, FULL, JOB_ID, UNKNOWN, WINE, Accepted, json, problem

_ERROR = inline_serializer("JobError", {"code": s.CharField(), "message": s.CharField()}, allow_null=True)
Status = inline_serializer(
    "Status",
    {
        "Id": s.UUIDField(),
        "Status": s.ChoiceField(["Queue", "Inference", "Completed"]),
        "State": s.CharField(),
        "Error": _ERROR,
        "Attempts": s.IntegerField(),
        "QueuePosition": s.IntegerField(allow_null=True, help_text="an estimate; null unless it waits"),
        "QueuedAt": s.DateTimeField(help_text="when it was accepted, or replayed"),
        "StartedAt": s.DateTimeField(allow_null=True),
        "FinishedAt": s.DateTimeField(allow_null=True),
        "QueueSeconds": s.FloatField(allow_null=True),
        "RunSeconds": s.FloatField(allow_null=True),
    },
)


def _header(name: str, kind: type, description: str, **more: Any) -> OpenApiParameter:
    return OpenApiParameter(name, kind, OpenApiParameter.HEADER, description=description, **more)


_WAIT = OpenApiParameter("wait", int, description="wait up to so many seconds for the end")
_INFERENCE_ID = _header("X-Inference-Id", str, "the id, instead of the path's")
_V2_ANSWER = {
    "model_name": "wine",
    "model_version": "1",
    "id": JOB_ID,
    "outputs": [
        {"name": "probability", "datatype": "FP32", "shape": [1, 3], "data": [0.997, 0.0014, 0.0013]},
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["class_0"]},
    ],
}
# Where a job's end is answered.
_ENDS = {
    409: problem("cancelled"),
    410: problem("expired before a worker could start it"),
    502: problem("the model failed, or the job was given up"),
}

INFER: dict[str, Any] = {
    "tags": ["Inference"],
    "summary": "Predict",
    "description": "V2 tensors or plain instances in, the same out. The Prefer header says who waits.",
    "parameters": [
        _header("Prefer", str, "`respond-async`: 202 at once; `wait=N`: wait N seconds at most; both: wait, then 202"),
        _header("X-Inference-Priority", str, "among the jobs of one's own team", enum=["high", "normal", "low"]),
        _header("X-Inference-Ttl", float, "seconds; a job that no worker has started by then expires"),
        _header("X-Inference-Ordering-Key", str, "jobs of one team, model and key run one after the other"),
    ],
    "request": {"application/json": OpenApiTypes.OBJECT},
    "examples": [
        OpenApiExample("instances as rows", {"instances": [WINE]}, request_only=True),
        OpenApiExample(
            "V2, one tensor",
            {"inputs": [{"name": "table", "shape": [1, 13], "datatype": "FP32", "data": WINE}]},
            request_only=True,
        ),
    ],
    "responses": {
        200: json("the result", "V2", _V2_ANSWER),
        202: OpenApiResponse(Accepted, "accepted; Location, StatusPath and ResultPath say where to look"),
        400: problem("the body is not JSON, or a header can't be read"),
        **DENIED,
        **UNKNOWN,
        413: problem("too many bytes or rows"),
        415: problem("a content type or encoding that isn't read"),
        422: problem("the input doesn't fit the signature; `errors` names field and row"),
        **FULL,
        **_ENDS,
        503: problem("no place to wait, too many open jobs in all, or the database is away"),
        504: problem("the wait is over; the job goes on at Location"),
    },
}
STATUS: dict[str, Any] = {
    "tags": ["Inference"],
    "summary": "Status of a job",
    "parameters": [_WAIT, _INFERENCE_ID],
    "responses": {200: Status, 400: problem("path and header contradict each other"), **DENIED, **UNKNOWN},
}
RESULT: dict[str, Any] = {
    "tags": ["Inference"],
    "summary": "Result of a job",
    "parameters": [_WAIT, _INFERENCE_ID],
    "responses": {
        200: json("the result, in the format of the request", "V2", _V2_ANSWER),
        202: OpenApiResponse(Accepted, "still open; ask again after Retry-After seconds"),
        400: problem("path and header contradict each other"),
        **DENIED,
        **UNKNOWN,
        422: problem("bad data"),
        **_ENDS,
        410: problem("it expired before a worker could start it, or retention has removed the result"),
    },
}
