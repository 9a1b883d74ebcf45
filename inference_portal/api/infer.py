"""POST /v2/models/{model}/infer: one endpoint, several ways to wait."""

import re
from contextlib import ExitStack
from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.utils.cache import patch_vary_headers
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from inference_portal.accounts.callers import Caller
from inference_portal.api import answers, job_options, prefer, schemas
from inference_portal.api.auth import caller_of
from inference_portal.api.job_options import JobOptions
from inference_portal.errors import Problem
from inference_portal.jobs.models import Job
from inference_portal.jobs.services import job_accept, job_new
from inference_portal.jobs.waiting import NoPlace, Waiter, hub
from inference_portal.store import model_store
from workers.formats import Decoded, Unavailable, json_body
from workers.model_store import Release

# An absent type is V2: tritonclient sends none.
JSON_TYPES = ("application/json", "application/octet-stream", "")
UNBUILT_HEADERS = (
    "X-Inference-Id",
    "Idempotency-Key",
    "X-Inference-Webhook",
    "X-Inference-Sink",
    "Inference-Header-Content-Length",
)
# Of a body that is too large, so much is read before the answer.
DRAIN_BYTES = 64 * 1024 * 1024


class InferView(APIView):
    """Validates at the door, stores the job, and answers as the Prefer header asks."""

    job_id: str | None = None
    preference = prefer.Preference()

    @extend_schema(**schemas.INFER)
    def post(self, request: Request, model: str, version: str | None = None) -> HttpResponse:
        """Predict."""
        self.preference = prefer.parse(request.headers.get("Prefer"), settings.MAX_WAIT_SECONDS)
        refuse_unbuilt_headers(request)
        options = job_options.from_headers(request.headers)
        release = model_store().get(model, version)
        decoded = json_body.decode(release, read_json_body(request), settings.MAX_REQUEST_ROWS)
        return self.answer(caller_of(request), release, decoded, options)

    def answer(self, caller: Caller, release: Release, decoded: Decoded, options: JobOptions) -> HttpResponse:
        """Accept the job and wait for it as long as was asked for. Raises Problem, Full."""
        asynchronous = self.preference.respond_async
        seconds = self.preference.wait
        if seconds is None:
            seconds = 0.0 if asynchronous else settings.SYNC_WAIT_SECONDS
        job = job_new(caller=caller, release=release, decoded=decoded, **options)
        with ExitStack() as stack:
            waiter = self._take_place(stack, job) if seconds > 0 else None
            job_accept(job=job)
            self.job_id = str(job.id)
            final = waiter.wait(seconds) if waiter else None
        if final is not None:
            return answers.result(final)
        if asynchronous:
            return answers.accepted(job)
        raise answers.wait_expired(job)

    def _take_place(self, stack: ExitStack, job: Job) -> Waiter | None:
        """Begin to wait before the job exists, so that its end can't be missed. None: answer 202 at once."""
        try:
            return stack.enter_context(hub.place(job.id))
        except NoPlace:
            if self.preference.respond_async:
                return None
            raise Problem("no-place-to-wait", "All places for waiting are taken.") from None

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the headers that every answer of this endpoint carries, errors too."""
        response = super().finalize_response(request, response, *args, **kwargs)
        patch_vary_headers(response, ["Prefer"])
        if self.job_id is not None:
            response["X-Inference-Id"] = self.job_id
            if self.preference.applied:
                response["Preference-Applied"] = self.preference.applied
        return response


def read_json_body(request: Request) -> bytes:
    """Return the body of a request that says it is JSON. Raises Problem (415, 413)."""
    media_type = (request.content_type or "").partition(";")[0].strip().lower()
    if media_type not in JSON_TYPES:
        raise Problem("unsupported-media-type", f"'{media_type}' isn't read here; send application/json.")
    encoding = request.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise Problem("unsupported-media-type", f"Content-Encoding '{encoding}' isn't read here; send it uncompressed.")
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


def refuse_unbuilt_headers(request: Request) -> None:
    """Raise Unavailable for a header that the contract knows and this version doesn't: ignoring it would mislead."""
    for header in UNBUILT_HEADERS:
        if header in request.headers:
            raise Unavailable(f"The header {header} is not available yet, leave it out.")
