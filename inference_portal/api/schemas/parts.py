"""What the descriptions of several routes share."""

from typing import Any

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, inline_serializer
from rest_framework import serializers as s

JOB_ID = "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11"
WINE = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]

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


def problem(description: str) -> OpenApiResponse:
    """Return the description of an error."""
    return OpenApiResponse(ProblemBody, description)


def json(description: str, name: str, value: dict[str, Any]) -> OpenApiResponse:
    """Return the description of an answer by an example."""
    return OpenApiResponse(OpenApiTypes.OBJECT, description, [OpenApiExample(name, value)])


DENIED = {401: problem("no key, or one that doesn't work"), 403: problem("the role doesn't allow it")}
UNKNOWN = {404: problem("unknown, or of another team")}
# Of everything that submits.
FULL = {429: problem("the team has as many open jobs as it may; try again after Retry-After seconds")}
