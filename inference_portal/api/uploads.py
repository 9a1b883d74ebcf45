"""POST /api/uploads/: a file for batches, streamed into the storage."""

import re
from contextlib import ExitStack
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import TooManyFilesSent
from django.core.files.uploadhandler import FileUploadHandler
from django.http import QueryDict, UnreadablePostError
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.utils.datastructures import MultiValueDict
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.api.auth import caller_of
from inference_portal.api.body import DRAIN_BYTES, drain, media_type
from inference_portal.api.schemas import batches as schemas
from inference_portal.batches.uploads import CHUNK_BYTES, TooManyBytes, Upload, receiving
from inference_portal.errors import Problem
from workers.formats import Fault, Invalid, Malformed, escape

FIELD = "file"

# Beside the file a body has its boundaries and headers.
_AROUND = 64 * 1024


class UploadView(APIView):
    """POST stores one file."""

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Request:
        """Return the request with its body unread: to look for a CSRF token in it, DRF would read all of it."""
        wrapped: Any = super().initialize_request(request, *args, **kwargs)
        wrapped._data = wrapped._full_data = QueryDict()
        wrapped._files = MultiValueDict()
        return cast(Request, wrapped)

    @extend_schema(**schemas.UPLOAD)
    def post(self, request: Request) -> Response:
        """Store the file that the field `file` of the form holds; return where it lies."""
        if media_type(request) != "multipart/form-data":
            raise Problem("unsupported-media-type", f"Send the file as the field '{FIELD}' of multipart/form-data.")
        meta = request.META
        stream: Any = request._request
        length = meta.get("CONTENT_LENGTH") or "0"
        if "chunked" in request.headers.get("Transfer-Encoding", "").lower():
            # Django reads nothing where no length is told.
            meta, stream = {**meta, "CONTENT_LENGTH": str(settings.MAX_UPLOAD_BYTES)}, meta["wsgi.input"]
        elif not re.fullmatch("[0-9]{1,18}", length):
            raise Malformed("Content-Length isn't a number.")
        elif int(length) > settings.MAX_UPLOAD_BYTES + _AROUND:
            drain(meta["wsgi.input"], int(length))
            raise Problem("too-large", f"{int(length):,} bytes; a file may have {settings.MAX_UPLOAD_BYTES:,}.")
        with ExitStack() as stack:
            to_storage = _ToStorage(stack, caller_of(request).team_id)
            try:
                fields, _ = MultiPartParser(meta, stream, [to_storage], "utf-8").parse()
            except (MultiPartParserError, UnreadablePostError, TooManyFilesSent) as error:
                raise Malformed(f"The body is not a whole form: {error}") from error
            except TooManyBytes as error:
                drain(stream, DRAIN_BYTES)
                raise Problem("too-large", str(error)) from error
            if unknown := sorted(fields):
                raise Invalid(Fault(f"/{escape(unknown[0])}", "there is no such field"))
            if to_storage.interrupted:
                raise Malformed("The body ends before the file does.")
            if to_storage.upload is None:
                raise Invalid(Fault(f"/{FIELD}", "expected a file with a name"))
            upload = to_storage.upload
        return Response({"uri": upload.uri, "bytes": upload.bytes, "sha256": upload.sha256}, status=201)


class _ToStorage(FileUploadHandler):
    """Writes the form's one file into the storage as it comes in; `stack` ends it."""

    chunk_size = CHUNK_BYTES

    def __init__(self, stack: ExitStack, team_id: int) -> None:
        super().__init__()
        self.upload: Upload | None = None
        self.interrupted = False
        self._stack, self._team_id = stack, team_id

    def new_file(self, field_name: str, file_name: str, *args: Any, **kwargs: Any) -> None:
        """Begin. Raises Invalid for another field, and for a second file."""
        if field_name != FIELD:
            raise Invalid(Fault(f"/{escape(field_name)}", "there is no such field"))
        if self.upload is not None:
            raise Invalid(Fault(f"/{FIELD}", "expected one file"))
        most = settings.MAX_UPLOAD_BYTES
        self.upload = self._stack.enter_context(receiving(team_id=self._team_id, name=file_name, most=most))

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        """Write it. Raises TooManyBytes, Unreachable."""
        if self.upload is not None:
            self.upload.write(raw_data)

    def file_complete(self, file_size: int) -> None:
        """Leave no file object: it lies in the storage."""

    def upload_interrupted(self) -> None:
        """Note that the last boundary never came."""
        self.interrupted = True
