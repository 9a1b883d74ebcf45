"""Reading a request's body: bounded, whatever its length, its transfer and its compression."""

import re

from django.conf import settings
from rest_framework.request import Request

from inference_portal.errors import Problem
from workers.formats import inflate

# Of a body that is too large, so much is read before the answer.
DRAIN_BYTES = 64 * 1024 * 1024


def read_body(request: Request) -> bytes:
    """Return the body, decompressed as Content-Encoding says. Raises Problem (400, 413), Malformed, UnknownCoding."""
    body = _read(request)
    codings = [coding.strip().lower() for coding in request.headers.get("Content-Encoding", "").split(",")]
    codings = [coding for coding in codings if coding not in ("", "identity")]
    return inflate.inflate(body, codings, settings.MAX_REQUEST_BYTES) if codings else body


def media_type(request: Request) -> str:
    """Return the Content-Type without its parameters, "" for none."""
    return (request.content_type or "").partition(";")[0].strip().lower()


def read_json_body(request: Request) -> bytes:
    """Return the body of a request whose only type is JSON. Raises Problem (415) and what `read_body` raises."""
    kind = media_type(request)
    if kind not in ("application/json", "application/octet-stream", ""):
        raise Problem("unsupported-media-type", f"'{kind}' isn't read here; send application/json.")
    return read_body(request)


def _read(request: Request) -> bytes:
    if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
        return _read_chunked(request)
    text = request.META.get("CONTENT_LENGTH") or "0"
    if not re.fullmatch("[0-9]{1,18}", text):
        raise Problem("malformed", "Content-Length isn't a number.")
    length = int(text)
    if length > settings.MAX_REQUEST_BYTES:
        _drain(request, length)
        raise Problem("too-large", f"{length:,} bytes; one request may have {settings.MAX_REQUEST_BYTES:,}.")
    body: bytes = request._request.body
    return body


def _read_chunked(request: Request) -> bytes:
    """Return a body of unknown length; Django reads none without a Content-Length."""
    body: bytes = request.META["wsgi.input"].read(settings.MAX_REQUEST_BYTES + 1)
    if len(body) > settings.MAX_REQUEST_BYTES:
        raise Problem("too-large", f"One request may have {settings.MAX_REQUEST_BYTES:,} bytes.")
    return body


def _drain(request: Request, length: int) -> None:
    """Read what a client is sending, within reason: many see a broken connection instead of an early answer."""
    left = min(length, DRAIN_BYTES)
    while left > 0 and (part := request.META["wsgi.input"].read(min(left, 65536))):
        left -= len(part)
