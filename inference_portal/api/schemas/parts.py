"""What the descriptions of several routes share."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from inference_portal.api.schemas.components import COUNT, FILTER, SINK_NAME, UUID, Schema, ref

JOB_ID = "0b0e7a52-6c1f-4b6e-9d1c-6f5f7d3a9c11"
WINE = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
PATHS = {"Id": JOB_ID, "StatusPath": f"/status/wine/{JOB_ID}", "ResultPath": f"/result/wine/{JOB_ID}"}
JSON, PROBLEM = "application/json", "application/problem+json"
# Printable ASCII; what stands around it gets lost on the way.
_HEADER_TEXT: Schema = {"type": "string", "pattern": "^[!-~]([ -~]{0,253}[!-~])?$"}

Responses = dict[Any, OpenApiResponse]


def at(name: str, schema: Schema, description: str = "", example: Any = None) -> OpenApiParameter:
    """Describe a part of the path."""
    return _parameter(name, schema, OpenApiParameter.PATH, description, example, required=True)


def query(name: str, schema: Schema, description: str = "", example: Any = None) -> OpenApiParameter:
    """Describe a parameter after the question mark."""
    return _parameter(name, schema, OpenApiParameter.QUERY, description, example)


def header(name: str, schema: Schema, description: str, example: Any = None, **more: Any) -> OpenApiParameter:
    """Describe a request's header."""
    return _parameter(name, schema, OpenApiParameter.HEADER, description, example, **more)


def answered(name: str, codes: list[int], schema: Schema, description: str, **more: Any) -> OpenApiParameter:
    """Describe a header of the answers with these statuses; they all carry it unless `required` is False."""
    more = {"required": True} | more
    return OpenApiParameter(
        name, schema, OpenApiParameter.HEADER, description=description, response=[*map(str, codes)], **more
    )


def json(name: str, description: str, example: Any) -> OpenApiResponse:
    """Describe an answer by the schema's name and an example."""
    return OpenApiResponse(ref(name), description, [OpenApiExample("example", example)])


def problems(kinds: dict[int, str], schema: str = "Problem") -> Responses:
    """Describe errors: what each status means here."""
    return {(status, PROBLEM): OpenApiResponse(ref(schema), text) for status, text in kinds.items()}


def _parameter(
    name: str, schema: Schema, location: Any, description: str, example: Any, **more: Any
) -> OpenApiParameter:
    examples = [] if example is None else [OpenApiExample("example", example)]
    return OpenApiParameter(name, schema, location, description=description, examples=examples, **more)


MODEL = at("model", {"type": "string", "pattern": "^[a-z0-9_-]{1,64}$"}, "a model's name", "wine")
VERSION = at("version", {"type": "string", "pattern": "^[1-9][0-9]{0,8}$"}, "one of its versions", "1")
JOB = at("job_id", UUID, "a job's id")
INFERENCE_ID = header("X-Inference-Id", UUID, "an id of one's own for the request, unique in the system")
BESIDE = header("X-Inference-Id", UUID, "may repeat the path's id, not contradict it")
IDEMPOTENCY_KEY = header(
    "Idempotency-Key", _HEADER_TEXT, "sent again with the same request, it is the same job; printable ASCII", "order-1"
)
ORDERING_KEY = header(
    "X-Inference-Ordering-Key", _HEADER_TEXT, "jobs of one team, model and key run one after the other", "line-7"
)
WEBHOOK = header(
    "X-Inference-Webhook",
    {"type": "string", "maxLength": 2048, "pattern": r"^https?://[!-\[\]-~]+$"},
    "where to tell of the job's end; a public address",
    "https://receiver.example/inference",
)
SINK = header("X-Inference-Sink", SINK_NAME, "where to put the result; a name that an operator has configured")
WAIT = query("wait", COUNT, "wait up to so many seconds for the end", 1)
PAGE = [
    query("cursor", FILTER, "as `next` and `previous` have it"),
    query("page_size", {"type": "integer", "minimum": 1}, "50 unless told, 500 at most", 50),
]
# Of every route that asks who is asking.
DENIED = {
    401: "no key, or one that doesn't work",
    403: "the role doesn't allow it",
    406: "no type of answer that is accepted",
    503: "the database is away",
}
OPERATORS_ONLY = DENIED | {403: "not an operator"}
UNKNOWN = {404: "unknown, or of another team"}
CONTRADICTORY = {400: "path and header contradict each other"}
# Of everything that reads JSON.
UNREADABLE = {
    400: "the body is not JSON, or a header can't be read",
    413: "too many bytes, rows or values",
    415: "a content type or a compression that isn't read",
}
# Of everything that submits.
FULL = {
    429: "the team has as many open jobs as it may; try again after Retry-After seconds",
    503: "too many open jobs in all, or the database is away",
}
_SECONDS: Schema = {"type": "integer", "minimum": 0}
AGAIN = answered("Retry-After", [429, 503], _SECONDS, "in how many seconds it's worth trying again")
AGAIN_UNAVAILABLE = answered("Retry-After", [503], _SECONDS, "in how many seconds it's worth trying again")
ASK_LATER = answered("Retry-After", [202], _SECONDS, "in how many seconds it's worth asking for the result")
LOCATION = answered("Location", [202], {"type": "string"}, "the ResultPath")
NAMED = answered("X-Inference-Id", [202], UUID, "the job's id")
CHALLENGE = answered("WWW-Authenticate", [401], {"type": "string"}, "Bearer")
# Of everything that asks who is asking.
ASKED = [AGAIN_UNAVAILABLE, CHALLENGE]
