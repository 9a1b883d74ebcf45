"""POST /v2/models/{model}/infer: one endpoint, several ways to wait."""

from contextlib import ExitStack
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.http import HttpResponse
from django.utils.cache import patch_vary_headers
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.views import APIView

from inference_portal.accounts.callers import Caller
from inference_portal.api import answers, job_options, prefer, request_id
from inference_portal.api.auth import caller_of
from inference_portal.api.body import read_body
from inference_portal.api.negotiation import ByTheView
from inference_portal.api.schemas import inference as schemas
from inference_portal.catalog.traffic import choose
from inference_portal.deliveries.sinks.choice import NoSuchSink
from inference_portal.deliveries.sinks.choice import choose as choose_sink
from inference_portal.errors import Problem
from inference_portal.jobs import relay, repeats
from inference_portal.jobs.models import RELAY, Job
from inference_portal.jobs.repeats import AlreadyAccepted, Identity
from inference_portal.jobs.services import job_accept, job_new
from inference_portal.jobs.waiting import NoPlace, Waiter, hub
from inference_portal.limits import request_limits
from workers.container_http import ContainerError, ContainerUnavailable
from workers.formats import Fault, Malformed, media
from workers.manifest import CONTAINER
from workers.model_store import Release
from workers.template.container import Container

# What of a client's headers goes to a container: what says how the body is read, and the answer written.
RELAYED_HEADERS = ("Content-Type", "Accept", "Inference-Header-Content-Length")


def _no_container(model: str) -> Problem:
    return Problem("not-a-container", f"'{model}' runs in the workers here; choose another preference.")


def _sink(named: str, release: Release, caller: Caller) -> str:
    try:
        return choose_sink(named, release, caller)
    except NoSuchSink as error:
        text = f"X-Inference-Sink: {error}"
        raise Problem("invalid-input", text, faults=(Fault("", text),)) from error


class InferView(APIView):
    """Validates at the door, stores the job or finds the one of an earlier request, and answers as Prefer asks."""

    content_negotiation_class = ByTheView
    job: Job | None = None
    preference = prefer.Preference()

    @extend_schema(**schemas.INFER)
    def post(self, request: Request, model: str, version: str | None = None) -> HttpResponse:
        """Predict."""
        headers = request.headers
        self.preference = prefer.parse(headers.get("Prefer"), settings.MAX_WAIT_SECONDS)
        options = job_options.from_headers(headers)
        sent = media.Sent(request.content_type or "", headers.get("Inference-Header-Content-Length"))
        body = read_body(request)
        compared = (model, version, *media.reading(sent), *job_options.compared(options))
        identity = Identity(repeats.fingerprint(body, *compared), *request_id.names(headers))
        caller = caller_of(request)
        earlier = repeats.first(identity, caller)
        if earlier is None:
            job_id = identity.id or uuid4()
            release = choose(model, version, options["ordering_key"] or str(job_id))
            options["sink"] = _sink(options["sink"], release, caller)
            decoded = media.decode(release, sent, body, request_limits())
            keeps = self.preference.mode != prefer.PROXY
            container = release.manifest.container
            if self.preference.mode == prefer.CONTAINER and container is None:
                raise _no_container(release.manifest.model)
            new = job_new(
                caller=caller,
                release=release,
                decoded=decoded,
                identity=identity,
                job_id=job_id,
                keeps_result=keeps,
                prefer=self.preference.for_container,
                **options,
            )
            try:
                if container is not None and self.preference.mode == prefer.CONTAINER:
                    return self.relay(request, new, container, body)
                return self.answer(request, new, is_new=True)
            except AlreadyAccepted:
                earlier = repeats.first(identity, caller)
                if earlier is None:
                    raise
        return self.answer(request, earlier, is_new=False)

    def answer(self, request: Request, job: Job, *, is_new: bool) -> HttpResponse:
        """Store a new job, wait for the end as long as the client wants, and answer. Raises Problem and for a new job
        what `job_accept` raises."""
        mode = self.preference.mode
        if mode == prefer.CONTAINER:
            if job.pool not in (RELAY, CONTAINER):
                raise _no_container(job.model)
            # A repeat: nothing is sent to the container again, it waits for the end of what was.
            mode = ""
        seconds = self.preference.wait
        if seconds is None:
            seconds = 0.0 if mode else settings.SYNC_WAIT_SECONDS
        # One that has ended already has a result also for who waits no time at all.
        wants_result = seconds > 0 or not mode
        if seconds > 0 and not job.is_relay:
            # At the door: nobody would get this answer.
            answers.format_for(request, job)
        with ExitStack() as stack:
            waiter = self._take_place(stack, job) if seconds > 0 and not job.is_final else None
            if is_new:
                job_accept(job=job)
            elif wants_result:
                # With its result; and it may have ended before there was a place.
                job = Job.objects.named(job.id, caller_of(request)) or job
            self.job = job
            if waiter is not None and not job.is_final:
                job = waiter.wait(seconds) or job
        if wants_result and job.is_final:
            return answers.result(request, job)
        if mode == prefer.PROXY:
            return answers.forgotten(job)
        if mode == prefer.ASYNC:
            return answers.accepted(job)
        raise answers.wait_expired(job)

    def relay(self, request: Request, job: Job, container: Container, body: bytes) -> HttpResponse:
        """Hand the request to the model's container, once, and answer as it does. Raises Problem and what `job_accept`
        raises."""
        if job.ordering_key:
            raise Malformed("X-Inference-Ordering-Key: a relay waits for no other job; leave it out")
        # No credentials, nothing that belongs to the connection.
        headers = {name: request.headers[name] for name in RELAYED_HEADERS if name in request.headers}
        try:
            answer = relay.relay(
                job=job, container=container, body=body, headers=headers | {"Prefer": self.preference.for_container}
            )
        except NoPlace:
            raise Problem("no-place-to-wait", "All places for relays are taken.") from None
        except (ContainerUnavailable, ContainerError) as error:
            self.job = job
            slug = "container-error" if isinstance(error, ContainerError) else "container-unavailable"
            raise Problem(slug, str(error)) from error
        self.job = job
        return answers.relayed(answer)

    def _take_place(self, stack: ExitStack, job: Job) -> Waiter | None:
        """Begin to wait before the job exists, so that its end can't be missed. None: answer 202 at once."""
        try:
            return stack.enter_context(hub.place(job.id))
        except NoPlace:
            if self.preference.mode == prefer.ASYNC:
                self.preference = self.preference.at_once()
                return None
            raise Problem("no-place-to-wait", "All places for waiting are taken.") from None

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Add the headers that every answer of this endpoint carries, errors too."""
        response = super().finalize_response(request, response, *args, **kwargs)
        patch_vary_headers(response, ["Prefer", "Accept"])
        if self.job is None:
            # Refused: the client's own id, or one to talk about; there is no job under it.
            sent = request_id.read_uuid(request.headers.get("X-Inference-Id", ""))
            response["X-Inference-Id"] = str(sent or uuid4())
        else:
            response["X-Inference-Id"] = str(self.job.id)
            if self.preference.applied:
                response["Preference-Applied"] = self.preference.applied
        return response
