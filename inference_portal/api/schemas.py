"""What the OpenAPI page says about each route: parameters, bodies, answers, an example each."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, inline_serializer
from rest_framework import serializers as s

_ID = "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11"
_ERROR = inline_serializer("JobError", {"code": s.CharField(), "message": s.CharField()}, allow_null=True)

Accepted = inline_serializer(
    "Accepted", {"Id": s.UUIDField(), "StatusPath": s.CharField(), "ResultPath": s.CharField()}
)
ProblemBody = inline_serializer(
    "Problem",
    {
        "type": s.CharField(),
        "title": s.CharField(),
        "status": s.IntegerField(),
        "detail": s.CharField(),
        "instance": s.CharField(),
        "retryable": s.BooleanField(),
        "errors": s.ListField(
            child=inline_serializer("ProblemError", {"pointer": s.CharField(), "detail": s.CharField()}), required=False
        ),
        "error": s.CharField(required=False, help_text="under /v2: the detail once more, for V2 clients"),
    },
)
Status = inline_serializer(
    "Status",
    {
        "Id": s.UUIDField(),
        "Status": s.ChoiceField(["Queue", "Inference", "Completed"]),
        "State": s.CharField(),
        "Error": _ERROR,
        "Attempts": s.IntegerField(),
        "QueuePosition": s.IntegerField(allow_null=True),
        "QueuedAt": s.DateTimeField(),
        "StartedAt": s.DateTimeField(allow_null=True),
        "FinishedAt": s.DateTimeField(allow_null=True),
        "QueueSeconds": s.FloatField(allow_null=True),
        "RunSeconds": s.FloatField(allow_null=True),
    },
)
Live = inline_serializer("Live", {"live": s.BooleanField()})
Ready = inline_serializer("Ready", {"ready": s.BooleanField()})


def _problem(description: str) -> OpenApiResponse:
    return OpenApiResponse(ProblemBody, description)


def _json(description: str, name: str, value: dict[str, Any]) -> OpenApiResponse:
    return OpenApiResponse(OpenApiTypes.OBJECT, description, [OpenApiExample(name, value)])


_DENIED = {401: _problem("no key, or one that doesn't work"), 403: _problem("the role doesn't allow it")}
_UNKNOWN = {404: _problem("unknown, or of another team")}
_WAIT = OpenApiParameter("wait", int, description="wait up to so many seconds for the end")
_INFERENCE_ID = OpenApiParameter(
    "X-Inference-Id", str, OpenApiParameter.HEADER, description="the id, instead of the path's"
)

_V2_ANSWER = {
    "model_name": "wine",
    "model_version": "1",
    "id": _ID,
    "outputs": [
        {"name": "probability", "datatype": "FP32", "shape": [1, 3], "data": [0.997, 0.0014, 0.0013]},
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["class_0"]},
    ],
}
_WINE = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]

INFER: dict[str, Any] = {
    "tags": ["Inference"],
    "summary": "Predict",
    "description": "V2 tensors or plain instances in, the same out. The Prefer header says who waits.",
    "parameters": [
        OpenApiParameter(
            "Prefer",
            str,
            OpenApiParameter.HEADER,
            description="`respond-async`: 202 at once; `wait=N`: wait N seconds at most; both: wait, then 202",
        )
    ],
    "request": {"application/json": OpenApiTypes.OBJECT},
    "examples": [
        OpenApiExample("instances as rows", {"instances": [_WINE]}, request_only=True),
        OpenApiExample(
            "V2, one tensor",
            {"inputs": [{"name": "table", "shape": [1, 13], "datatype": "FP32", "data": _WINE}]},
            request_only=True,
        ),
    ],
    "responses": {
        200: _json("the result", "V2", _V2_ANSWER),
        202: OpenApiResponse(Accepted, "accepted; Location, StatusPath and ResultPath say where to look"),
        400: _problem("the body is not JSON"),
        **_DENIED,
        **_UNKNOWN,
        413: _problem("too many bytes or rows"),
        415: _problem("a content type or encoding that isn't read"),
        422: _problem("the input doesn't fit the signature; `errors` names field and row"),
        502: _problem("the model failed, or the job was given up"),
        503: _problem("no place to wait, or the database is away"),
        504: _problem("the wait is over; the job goes on at Location"),
    },
}
STATUS: dict[str, Any] = {
    "tags": ["Inference"],
    "summary": "Status of a job",
    "parameters": [_WAIT, _INFERENCE_ID],
    "responses": {200: Status, 400: _problem("path and header contradict each other"), **_DENIED, **_UNKNOWN},
}
RESULT: dict[str, Any] = {
    "tags": ["Inference"],
    "summary": "Result of a job",
    "parameters": [_WAIT, _INFERENCE_ID],
    "responses": {
        200: _json("the result, in the format of the request", "V2", _V2_ANSWER),
        202: OpenApiResponse(Accepted, "still open; ask again after Retry-After seconds"),
        400: _problem("path and header contradict each other"),
        **_DENIED,
        **_UNKNOWN,
        409: _problem("cancelled"),
        422: _problem("bad data"),
        502: _problem("the model failed, or the job was given up"),
    },
}
SERVER: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Server metadata",
    "auth": [],
    "responses": {
        200: _json("the server", "server", {"name": "inference-portal", "version": "0.1.0", "extensions": []})
    },
}
LIVE: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Is the server alive?",
    "auth": [],
    "responses": {200: Live},
}
READY: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Are requests accepted?",
    "auth": [],
    "responses": {200: Ready, 503: _problem("no database or no model")},
}
MODEL: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Model metadata",
    "responses": {
        200: _json(
            "inputs and outputs of the model",
            "metadata",
            {
                "name": "wine",
                "versions": ["1"],
                "platform": "xgboost",
                "inputs": [{"name": "alcohol", "datatype": "FP32", "shape": [-1]}],
                "outputs": [{"name": "label", "datatype": "BYTES", "shape": [-1]}],
            },
        ),
        **_DENIED,
        **_UNKNOWN,
    },
}
MODEL_READY: dict[str, Any] = {
    "tags": ["Server and models"],
    "summary": "Can a worker serve the model now?",
    "responses": {
        200: _json("a worker was heard lately", "ready", {"name": "wine", "ready": True}),
        **_DENIED,
        **_UNKNOWN,
        503: _problem("no worker was heard lately; requests are accepted and wait"),
    },
}
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
        },
    ),
    "examples": [OpenApiExample("one wine", {"model": "wine", "rows": [_WINE]}, request_only=True)],
    "responses": {
        202: Accepted,
        400: _problem("the body is not JSON"),
        **_DENIED,
        **_UNKNOWN,
        413: _problem("too many bytes or rows"),
        415: _problem("a content type that isn't read"),
        422: _problem("the input doesn't fit the signature"),
    },
}
JOB_CANCEL: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "Cancel a job",
    "request": None,
    "responses": {
        202: _json("cancelled", "cancelled", {"id": _ID, "state": "cancelled"}),
        **_DENIED,
        **_UNKNOWN,
        409: _problem("it has ended already"),
    },
}

_JOB = {
    "id": _ID,
    "team": "demo",
    "submitted_by": "key demo",
    "model": "wine",
    "version": "1",
    "state": "succeeded",
    "attempt": 1,
    "rows": 1,
    "accepted_at": "2026-01-31T12:00:00.000000Z",
    "started_at": "2026-01-31T12:00:00.010000Z",
    "finished_at": "2026-01-31T12:00:00.012000Z",
    "worker": "cpu@host/4711",
    "device": "cpu",
    "error": None,
    "status_path": f"/status/wine/{_ID}",
    "result_path": f"/result/wine/{_ID}",
}
JOB_LIST: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "List jobs, newest first",
    "examples": [OpenApiExample("a job", _JOB, response_only=True)],
}
JOB_DETAIL: dict[str, Any] = {
    "tags": ["Jobs"],
    "summary": "One job with its attempts",
    "examples": [
        OpenApiExample(
            "a job",
            _JOB
            | {
                "attempts": [
                    {
                        "number": 1,
                        "worker": "cpu@host/4711",
                        "device": "cpu",
                        "started_at": "2026-01-31T12:00:00.010000Z",
                        "finished_at": "2026-01-31T12:00:00.012000Z",
                        "code": "succeeded",
                        "message": "",
                    }
                ]
            },
            response_only=True,
        )
    ],
}
HEALTHZ: dict[str, Any] = {
    "tags": ["Health"],
    "summary": "Is this process alive?",
    "auth": [],
    "responses": {200: _json("alive", "alive", {"status": "ok"})},
}
READYZ: dict[str, Any] = {
    "tags": ["Health"],
    "summary": "Can it work, and what is missing?",
    "auth": [],
    "responses": {
        200: _json("it can", "ready", {"database": "ok", "model_store": "ok", "broker": "ok", "workers": "1 alive"}),
        503: _json("it can't", "not ready", {"database": "away", "model_store": "ok", "workers": "degraded"}),
    },
}


class KeyScheme(OpenApiAuthenticationExtension):
    """Tell the OpenAPI page about API keys."""

    target_class = "inference_portal.api.auth.KeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme."""
        return {"type": "http", "scheme": "bearer", "description": "An API key of a team"}


class BrowserScheme(OpenApiAuthenticationExtension):
    """Tell the OpenAPI page about logged-in browsers."""

    target_class = "inference_portal.api.auth.BrowserAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
