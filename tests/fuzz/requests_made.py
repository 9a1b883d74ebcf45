"""What the contract's fuzzer sends beside what schemathesis makes up from the schema: so that it gets past the door.

Half of the requests that should be right carry a body that is right for their model, and a body is compressed as the
header says. Requests that should be wrong are sent as they were made up.
"""

import gzip
import json
import zlib
from typing import Any
from uuid import UUID

import pyarrow as pa
import schemathesis
from hypothesis import strategies as st
from schemathesis.core.failures import Failure, MalformedJson
from schemathesis.openapi.checks import MissingContentType

from tests.fuzz.right_bodies import MODELS, binary, bodies, columns, header_length, rows
from tests.unit.formats.bodies import ARROW, BINARY, NPY, PARQUET
from workers.formats.media import CSV, JSON
from workers.formats.v2_binary import HEADER

TYPES = (JSON, BINARY, CSV, PARQUET, ARROW, NPY)
PACKERS = {
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "deflate": zlib.compress,
    "zstd": lambda data: pa.compress(data, "zstd", asbytes=True),
}
# Of a time to live; a header's pattern can't say it.
MOST_SECONDS = 2_592_000
OTHER_PATHS = {"bulk", "replay", "discard", "messages"}
# Refusals that a request with a right body doesn't get; what else may be wrong with it has another status or type.
WRONG_BODY = {
    "/problems/malformed",
    "/problems/invalid-input",
    "/problems/unsupported-media-type",
    "/problems/too-large",
}


@st.composite
def _broken(draw: st.DrawFn, media_type: str) -> bytes:
    """Return a right body with something changed in it, or nothing."""
    body = draw(st.sampled_from([each for model in MODELS for each in bodies(model, media_type)]))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        match draw(st.integers(0, 3)):
            case 0:
                body = body[:at] + draw(st.binary(max_size=8)) + body[at:]
            case 1:
                body = body[:at] + body[at + draw(st.integers(1, 64)) :]
            case 2:
                body = body[:at] + bytes([draw(st.integers(0, 255))]) + body[at + 1 :]
            case _:
                body = body[:at]
    return body


def register() -> None:
    """Tell schemathesis about the media types, the hooks and the check below. Once a process."""
    for media_type in TYPES:
        if media_type != JSON:
            schemathesis.openapi.media_type(media_type, _broken(media_type))
    schemathesis.hook(before_load_schema)
    schemathesis.hook(before_call)
    schemathesis.hook(filter_failure)
    schemathesis.check(right_body_is_accepted)


def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Leave out the examples of bodies that have a strategy of their own here: it wants bytes, and JSON has none."""
    for methods in raw_schema["paths"].values():
        for operation in methods.values():
            for media_type, content in operation.get("requestBody", {}).get("content", {}).items():
                if media_type != JSON:
                    content.pop("examples", None)


def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Make half of the requests that should be right so, and keep headers and body in agreement."""
    if not _should_be_right(case):
        return
    path, body, headers = case.operation.path, case.body, case.headers
    chosen = zlib.crc32(repr((case.path_parameters, headers, body)).encode(errors="replace"))
    if "/infer" in path or "result" in path:
        # Not a parameter, for OpenAPI: the types of the answers say it.
        headers["Accept"] = (*TYPES, "*/*")[chosen // 16 % 7]
    if chosen % 8 and case.operation.method != "get":
        # Most of those that are made up or known belong to another request.
        headers.pop("X-Inference-Id", None)
        headers.pop("Idempotency-Key", None)
        if case.operation.method == "put":
            case.path_parameters = {"job_id": str(UUID(int=chosen, version=4))}
    if "job_id" in (case.path_parameters or {}) and "X-Inference-Id" in headers:
        # It may not contradict the path.
        headers["X-Inference-Id"] = case.path_parameters["job_id"]
    if path.endswith("/infer"):
        _infer(case, chosen, kwargs)
    elif isinstance(body, dict) and "jobs" in body:
        case.body = {"jobs": [_job(job, chosen // (number + 1)) for number, job in enumerate(body["jobs"])]}
    elif isinstance(body, dict):
        case.body = _job(body, chosen)


def _job(job: dict[str, Any], chosen: int) -> dict[str, Any]:
    """Return a job, in half of the cases with rows that are right for its model."""
    model = job.get("model")
    if model not in MODELS or chosen % 2:
        return job
    names, values = columns(model), rows(model)
    right: list[Any] = values if chosen % 4 else [dict(zip(names, row, strict=True)) for row in values]
    return {name: value for name, value in job.items() if name != "inputs"} | {"rows": right}


def _infer(case: Any, chosen: int, kwargs: dict[str, Any]) -> None:
    model, kind, headers = (case.path_parameters or {}).get("model"), case.media_type, case.headers
    body = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode()
    # It belongs to one kind of body.
    headers.pop(HEADER, None)
    if not 0 < float(headers.get("X-Inference-Ttl", 1)) <= MOST_SECONDS:
        del headers["X-Inference-Ttl"]
    if model in MODELS and kind in TYPES and chosen % 2:
        # Which addresses and sinks may be named are settings.
        for name in ("X-Inference-Webhook", "X-Inference-Sink"):
            headers.pop(name, None)
        known = bodies(model, kind)
        body = known[chosen // 2 % len(known)]
    for each in MODELS:
        if body == binary(each):
            headers[HEADER] = str(header_length(each))
    # In place of the case's own body, by whose meaning schemathesis goes.
    kwargs["data"] = PACKERS.get(headers.get("Content-Encoding"), bytes)(body)


def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Drop what OpenAPI can't say."""
    # One of the two kinds of 202 has no body, and so no type.
    forgotten = response.status_code == 202 and not response.content
    # In sequences the end of one path is taken for an id in another.
    other_path = (case.path_parameters or {}).get("job_id") in OTHER_PATHS
    return not other_path and not (forgotten and isinstance(failure, MissingContentType | MalformedJson))


def right_body_is_accepted(ctx: Any, response: Any, case: Any) -> None:
    """A body that is right for its model, sent with headers by the schema, is not refused as a wrong one."""
    if not (_should_be_right(case) and case.operation.path.endswith("/infer")):
        return
    model, kind = (case.path_parameters or {}).get("model"), case.media_type
    sent = response.request.body
    coding = (case.headers or {}).get("Content-Encoding")
    if model not in MODELS or kind not in TYPES or not isinstance(sent, bytes):
        return
    right = {PACKERS[coding](body) if coding in PACKERS else body for body in bodies(model, kind)}
    if sent in right and response.status_code in (400, 413, 415, 422):
        assert json.loads(response.content)["type"] not in WRONG_BODY, response.content.decode()


def _should_be_right(case: Any) -> bool:
    return case.meta is not None and case.meta.generation.mode.is_positive
