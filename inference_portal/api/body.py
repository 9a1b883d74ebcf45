"""Reading a request's body: bounded, whatever its length, its transfer and its compression."""

import re
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework.request import Request

from inference_portal.errors import Problem
from workers.formats import Fault, Invalid, escape, inflate, json_body
from workers.schema import MAX_FAULTS

# Of a body that is too large, so much is read before the answer.
DRAIN_BYTES = 64 * 1024 * 1024


def read_body(request: Request) -> bytes:
    """Return the body, decompressed as Content-Encoding says. Raises Problem (400, 413), Malformed, UnknownCoding."""
    codings = request.headers.get("Content-Encoding", "").split(",")
    return inflate.inflate(_read(request), codings, settings.MAX_REQUEST_BYTES)


def media_type(request: Request) -> str:
    """Return the Content-Type without its parameters, "" for none."""
    return (request.content_type or "").partition(";")[0].strip().lower()


def read_json_body(request: Request) -> bytes:
    """Return the body of a request whose only type is JSON. Raises Problem (415) and what `read_body` raises."""
    kind = media_type(request)
    if kind not in ("application/json", "application/octet-stream", ""):
        raise Problem("unsupported-media-type", f"'{kind}' isn't read here; send application/json.")
    return read_body(request)


def read_object(request: Request, *fields: str) -> dict[str, Any]:
    """Return the body's JSON object, an empty one for no body.

    Raises Invalid for another field than these, if any are named; and Malformed, and what `read_json_body` raises.
    """
    text = read_json_body(request)
    data = json_body.read_object(text) if text else {}
    if fields and (unknown := sorted(data.keys() - set(fields))):
        raise Invalid(*(Fault(f"/{escape(name)}", "there is no such field") for name in unknown[:MAX_FAULTS]))
    return data


def version_of(data: Mapping[str, Any]) -> str | None:
    """Return the body's version, None for none. Raises Invalid."""
    version = data.get("version")
    if version is not None and not isinstance(version, str):
        raise Invalid(Fault("/version", 'expected text, such as "1"'))
    return version


def _read(request: Request) -> bytes:
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        return _read_chunked(request)
    text = request.META.get("CONTENT_LENGTH") or "0"
    if not re.fullmatch("[0-9]{1,18}", text):
        raise Problem("malformed", "Content-Length isn't a number.")
    length = int(text)
    if length > settings.MAX_REQUEST_BYTES:
        drain(request.META["wsgi.input"], length)
        raise Problem("too-large", f"{length:,} bytes; one request may have {settings.MAX_REQUEST_BYTES:,}.")
    body: bytes = request._request.body
    return body


def _read_chunked(request: Request) -> bytes:
    """Return a body of unknown length; Django reads none without a Content-Length."""
    body: bytes = request.META["wsgi.input"].read(settings.MAX_REQUEST_BYTES + 1)
    if len(body) > settings.MAX_REQUEST_BYTES:
        raise Problem("too-large", f"One request may have {settings.MAX_REQUEST_BYTES:,} bytes.")
    return body


def drain(stream: Any, most: int) -> None:
    """Read what a client is sending, within reason: many see a broken connection instead of an early answer."""
    left = min(most, DRAIN_BYTES)
    while left > 0 and (part := stream.read(min(left, 65536))):
        left -= len(part)
