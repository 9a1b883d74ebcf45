"""What a form may bring along, looked at before a byte of it is read: Django itself has a limit for all but files."""

from typing import Any

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadhandler import FileUploadHandler
from django.urls import reverse

# Beside the file a body has its boundaries and the form's other fields.
AROUND = 64 * 1024


class UploadLimit(FileUploadHandler):
    """The first of Django's upload handlers. Files are for the page that takes one, from somebody who has logged in."""

    def handle_raw_input(
        self,
        input_data: Any,
        META: dict[str, str],  # noqa: N803
        content_length: int,
        boundary: str,
        encoding: str | None = None,
    ) -> None:
        """Let it pass, or raise RequestDataTooBig (`errors.bad_request` answers)."""
        most = settings.MAX_REQUEST_BYTES
        request = self.request
        if request is not None and request.path == reverse("admin:new_batch") and request.user.is_authenticated:
            most = max(most, settings.MAX_UPLOAD_BYTES)
        if content_length > most + AROUND:
            raise RequestDataTooBig(f"The form has {content_length:,} bytes; here at most {most:,} are taken.")

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        """Hand it on to Django's own handlers."""
        return raw_data

    def file_complete(self, file_size: int) -> None:
        """Leave the file to them, too."""
