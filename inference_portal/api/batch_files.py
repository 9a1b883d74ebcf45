"""GET /api/batches/{id}/output/ and …/errors/: the files that a batch has written."""

import csv
import io
import re
from collections.abc import Generator, Iterator
from contextlib import closing
from itertools import islice
from typing import Any, cast
from uuid import UUID

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.utils.cache import get_conditional_response
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from inference_portal.api.accept import ANYTHING, preferred
from inference_portal.api.batches import OfOneBatch
from inference_portal.api.negotiation import ByTheView
from inference_portal.api.schemas import batches as schemas
from inference_portal.batches import files
from inference_portal.batches.files import Removed, Stored
from inference_portal.errors import Problem
from inference_portal.jobs.pool import let_go
from workers.datasets import DatasetError, place

CHUNK_BYTES = 1024 * 1024
# So many errors are shown as JSON; all of them are in the file.
MAX_ERRORS = 1_000
CSV, JSON = "text/csv", "application/json"
_RANGE = re.compile("bytes=([0-9]{0,18})-([0-9]{0,18})")


class BatchOutputView(OfOneBatch):
    """GET the predictions."""

    content_negotiation_class = ByTheView

    @extend_schema(**schemas.BATCH_OUTPUT)
    def get(self, request: Request, batch_id: UUID) -> HttpResponseBase:
        """Stream the file. Raises Problem (409) while it isn't there, (410) once it is gone, (416)."""
        return _send(request, files.output(self.batch(request, batch_id)))


class BatchErrorsView(OfOneBatch):
    """GET the rows that failed."""

    content_negotiation_class = ByTheView

    @extend_schema(**schemas.BATCH_ERRORS)
    def get(self, request: Request, batch_id: UUID) -> HttpResponseBase:
        """Stream the file, or show its beginning as JSON. Raises Problem (406, 409, 410, 416)."""
        stored = files.errors(self.batch(request, batch_id))
        kind = preferred(request.headers.get("Accept", ANYTHING), (CSV, JSON))
        if kind is None:
            raise Problem("not-acceptable", f"The errors can be had as {CSV} and {JSON}.")
        answer: HttpResponseBase
        if kind == JSON:
            answer = Response(_beginning(stored))
        elif stored is None:
            answer = HttpResponse(files.NO_ERRORS, content_type=CSV)
        else:
            answer = _send(request, stored)
        answer["Vary"] = "Accept"
        return answer


def _send(request: Request, stored: Stored) -> HttpResponseBase:
    """Return the file, or the part of it that Range names."""
    etag = f'"{stored.sha256}"'
    part = _part(request, stored.bytes, etag)
    start, end = part or (0, stored.bytes)
    body = _Body(_opened(stored), start, end)
    answer = StreamingHttpResponse(body, status=200 if part is None else 206, content_type=stored.type)
    if part is not None:
        answer["Content-Range"] = f"bytes {start}-{end - 1}/{stored.bytes}"
    answer["Content-Length"] = str(end - start)
    answer["Content-Disposition"] = f'attachment; filename="{stored.name}"'
    answer["Accept-Ranges"] = "bytes"
    answer["ETag"] = etag
    # 304 for who has it already; it hands back the answer else, of whatever kind that is.
    return get_conditional_response(request._request, etag=etag, response=cast(Any, answer)) or answer


def _part(request: Request, size: int, etag: str) -> tuple[int, int] | None:
    """Return from where to where (excluded) the client wants it, None for all of it. Raises Problem (416)."""
    # Other units, several ranges, or a range of another file: the whole is an answer, too.
    asked = _RANGE.fullmatch(request.headers.get("Range", ""))
    if asked is None or asked[0] == "bytes=-" or request.headers.get("If-Range", etag) != etag:
        return None
    first, last = asked.groups()
    start = int(first) if first else max(0, size - int(last))
    end = min(size, int(last) + 1) if first and last else size
    if start >= end:
        raise Problem(
            "no-such-bytes",
            f"The file has {size:,} bytes; '{asked[0]}' is none of them.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


def _opened(stored: Stored) -> Any:
    """Open the file. Raises Removed, Unreachable."""
    try:
        file = place.open_input(stored.uri)
    except DatasetError as error:
        # An output in a place of the team's own may be moved by anybody.
        raise Removed(f"The file isn't where it was written any more: {error}") from error
    if file.size() != stored.bytes:
        # Nobody is to take it for the one with the sha256 that the receipt has.
        file.close()
        raise Removed(f"The file isn't the one any more that was written there, of {stored.bytes:,} bytes.")
    return file


class _Body:
    """A part of a file, a little at a time; whoever closes it closes the file."""

    def __init__(self, file: Any, start: int, end: int) -> None:
        self._file = file
        self._parts = self._read(start, end)

    def __iter__(self) -> Iterator[bytes]:
        return self._parts

    def close(self) -> None:
        """Close the file."""
        self._parts.close()
        self._file.close()

    def _read(self, start: int, end: int) -> Generator[bytes]:
        # A client that reads slowly holds a thread, but no connection to the database.
        let_go()
        self._file.seek(start)
        left = end - start
        while left > 0:
            part = self._file.read(min(left, CHUNK_BYTES))
            if not part:
                # The answer breaks off, and the client sees that: fewer bytes than Content-Length says.
                return
            left -= len(part)
            yield part


def _beginning(stored: Stored | None) -> dict[str, Any]:
    """Return the first errors."""
    if stored is None:
        return {"results": [], "more": False}
    with closing(_opened(stored)) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        lines = list(islice(csv.DictReader(text), MAX_ERRORS + 1))
    results = [
        {"row": int(line["row"]), "column": line["column"], "reason": line["reason"]} for line in lines[:MAX_ERRORS]
    ]
    return {"results": results, "more": len(lines) > MAX_ERRORS}
