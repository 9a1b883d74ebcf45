"""Every error that a client can see, in one table (RFC 9457), and the way from an exception to an answer."""

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.csrf import csrf_failure as django_csrf_failure
from rest_framework import exceptions
from rest_framework.views import set_rollback

from inference_portal.batches.files import NotThere, Removed
from inference_portal.catalog.refusals import GoldenMismatch, GoldenMissing, GoldenUnanswered, ReleaseConflict
from inference_portal.jobs.pool import replace_broken
from inference_portal.jobs.quota import Full
from inference_portal.jobs.repeats import AlreadyAccepted, Mismatch
from inference_portal.jobs.rerun import NotWaiting
from workers.contract import ErrorCode
from workers.datasets import Unreachable
from workers.formats import Fault, Invalid, Malformed, TooLarge, Unavailable, UnknownCoding, UnknownType, escape
from workers.model_store import UnknownModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of problem: its page under /problems/ shows title and explanation."""

    status: int
    title: str
    retryable: bool
    explanation: str


PROBLEMS: dict[str, ProblemType] = {
    "malformed": ProblemType(400, "The request can't be read", False, "The body or a header is not what its type says. Correct it and send it again."),
    "unauthenticated": ProblemType(401, "Who is asking?", False, "Send 'Authorization: Bearer <api key>', or log in. The key may be wrong, expired or revoked."),
    "forbidden": ProblemType(403, "Your role may not do this", False, "Ask an operator for a key or an account with the role that the detail names."),
    "not-found": ProblemType(404, "There is no such thing", False, "The id, the model, the version or the path is unknown, or belongs to another team."),
    "method-not-allowed": ProblemType(405, "This path doesn't take that method", False, "The Allow header lists the methods of this path."),
    "not-acceptable": ProblemType(406, "No answer in the type you accept", False, "Leave Accept out, or accept one of the types that the detail names."),
    "conflict": ProblemType(409, "The state doesn't allow this", False, "Read its status: a job or a batch that has ended can't be cancelled or changed, only what has ended can be run again, a job only without a result, and only a dead letter that waits can be replayed or discarded. The files of a batch are there once it has ended with an output."),
    "release-conflict": ProblemType(409, "The model's traffic doesn't allow this", False, "Look at the model's versions and their weights: there may be no release to take back, or no other version that could take the rest."),
    "golden-missing": ProblemType(409, "Nothing proves the version", False, "A release needs golden samples: inputs with the outputs that are expected of them, in a file that the manifest names. The detail says what is wrong with them."),
    "golden-mismatch": ProblemType(409, "The golden samples differ", False, "A worker gave other outputs than the golden samples expect; nothing was released. 'differences' has the row, the output, and both values: correct the model, or the samples."),
    "golden-unanswered": ProblemType(409, "The golden samples have no answer", True, "No worker could answer them in time; nothing was released. The detail has the last error: mostly no worker of the version's pool is there, or it can't load the model."),
    "cancelled": ProblemType(409, "The job was cancelled", False, "Somebody of the team cancelled it; there is no result. Submit it again if you need one."),
    "expired": ProblemType(410, "The job expired", False, "No worker could start it within its time to live. Submit it again if you still need the result, with more time or none."),
    "result-purged": ProblemType(410, "The result is gone", False, "The job or the batch succeeded long ago; what it gave was removed when it grew old (RESULT_RETENTION_HOURS)."),
    "result-not-kept": ProblemType(410, "The result is not kept", False, "The job was submitted with 'Prefer: respond-async-proxy', fire and forget: its result goes to its deliveries only. Submit with 'respond-async' to fetch it."),
    "too-large": ProblemType(413, "The request is too large", False, "Split it into several requests; the detail names the limit."),
    "unsupported-media-type": ProblemType(415, "This content type isn't read here", False, "The detail names the types, or the compressions, that are read here."),
    "no-such-bytes": ProblemType(416, "The file has no such bytes", False, "Range asks for a part behind the end of the file. Content-Range says how long it is."),
    "invalid-input": ProblemType(422, "The input doesn't fit", False, "'errors' names each place (a JSON pointer) and what was expected there. Nothing was queued."),
    "idempotency-mismatch": ProblemType(422, "The id was used for something else", False, "An X-Inference-Id or Idempotency-Key names one request. Only the same request, with the same body and headers, may be sent again under it; nothing was queued."),
    "not-a-container": ProblemType(422, "The model has no container", False, "'respond-async-container' relays to a model's own container. This model runs in the workers here: choose 'respond-async' or 'respond-async-proxy'."),
    "not-available": ProblemType(422, "This isn't available yet", False, "The contract knows this option, this installation doesn't have it yet. Leave it out."),
    "bad-data": ProblemType(422, "The model refused the data", False, "The worker's own check failed. The job has ended; correct the data and submit it again."),
    "quota-exceeded": ProblemType(429, "Your team has too many open jobs", True, "Nothing was queued. Try again after Retry-After seconds: by the rate at which the team's jobs end now, about a tenth of its places will be free then."),
    "internal-error": ProblemType(500, "Something is broken here", True, "This is our fault and was logged. Try again later, or tell the operator."),
    "container-error": ProblemType(502, "The model's container answered something else", False, "Its answer isn't what the model's manifest says, or is too large. The detail says what was wrong; its operator has to look."),
    "container-unavailable": ProblemType(502, "The model's container gave no answer", False, "It can't be reached, or went away before its answer was whole; it may have done the work all the same. A relay is never repeated by the portal, and a repeat under the same id gets this answer again: if it may be done twice, send it under a new id."),
    "model-error": ProblemType(502, "The model failed", False, "The model raised an error on this input, and would again. The detail says which."),
    "dead-lettered": ProblemType(502, "The job was given up", False, "All its attempts failed. It is kept with its input and its errors, for an operator to look at."),
    "no-place-to-wait": ProblemType(503, "Too many requests are waiting", True, "Try again, or send 'Prefer: respond-async' and poll: that needs no place."),
    "unavailable": ProblemType(503, "The portal can't do this now", True, "Mostly the database or the storage of the batches is away, sometimes the job of the same name was being removed at that moment; the detail says which. Try again after Retry-After seconds. If the database went away in the middle of accepting a request, that job may exist: look at the list."),
    "system-full": ProblemType(503, "Too many jobs are open", True, "The jobs of all teams together are as many as may be open at once; nothing was queued. Try again after Retry-After seconds."),
    "not-ready": ProblemType(503, "Not ready", True, "The detail says what is missing. Without a worker requests are accepted and wait until one comes; without a model in the store there is nothing to ask."),
    "wait-expired": ProblemType(504, "Still running", False, "The job goes on. Fetch its result from Location, or wait longer with 'Prefer: wait=N'."),
}  # fmt: skip

# What ended a job -> the problem that its result answers with.
JOB_PROBLEMS: dict[str, str] = {
    ErrorCode.BAD_DATA: "bad-data",
    ErrorCode.MODEL_ERROR: "model-error",
    ErrorCode.CONTAINER_ERROR: "container-error",
    # Of a relay; other jobs are tried again, and given up in the end.
    ErrorCode.CONTAINER_UNAVAILABLE: "container-unavailable",
}


class Problem(Exception):
    """Raise it anywhere below a view, and the client gets the problem."""

    def __init__(
        self,
        slug: str,
        detail: str,
        *,
        faults: tuple[Fault, ...] = (),
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        self.slug, self.detail, self.faults, self.headers = slug, detail, faults, dict(headers or {})
        # What this problem's object tells beside the fields that all have.
        self.more = dict(more or {})
        if PROBLEMS[slug].status in (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE):
            self.headers.setdefault("Retry-After", "1")
        super().__init__(f"{slug}: {detail}")


def problem_fields(request: HttpRequest | Any, problem: Problem) -> dict[str, Any]:
    """Return the fields of the problem's JSON object."""
    kind = PROBLEMS[problem.slug]
    body: dict[str, Any] = {
        "type": f"/problems/{problem.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail,
        "instance": request.path,
        "retryable": kind.retryable,
    }
    if problem.faults:
        body["errors"] = [{"pointer": f.pointer, "detail": f.detail} for f in problem.faults]
    if request.path == "/v2" or request.path.startswith("/v2/"):
        body["error"] = problem.detail
    return body | problem.more


def problem_of_many(request: HttpRequest | Any, problem: Problem) -> dict[str, Any]:
    """Return the problem of one of many that one request asked for: it has no header that says when to try again."""
    body = problem_fields(request, problem)
    return body | ({"retry_after": int(problem.headers["Retry-After"])} if "Retry-After" in problem.headers else {})


def problem_response(request: HttpRequest | Any, problem: Problem) -> HttpResponse:
    """Return the application/problem+json answer, whatever the client accepts."""
    kind = PROBLEMS[problem.slug]
    body = problem_fields(request, problem)
    response = HttpResponse(json.dumps(body), status=kind.status, content_type="application/problem+json")
    for name, value in problem.headers.items():
        response[name] = value
    return response


def as_problem(error: BaseException) -> Problem:
    """Translate any exception; what nobody foresaw is logged and becomes internal-error, without its text."""
    match error:
        case Problem():
            return error
        case Invalid():
            return Problem("invalid-input", _first(error.faults), faults=error.faults)
        case Malformed():
            return Problem("malformed", str(error))
        case TooLarge():
            return Problem("too-large", str(error))
        case UnknownType() | UnknownCoding():
            return Problem("unsupported-media-type", str(error))
        case Mismatch():
            return Problem("idempotency-mismatch", str(error))
        case AlreadyAccepted():
            return Problem("unavailable", "Another request under this id came and went; send it again.")
        case GoldenMismatch():
            return Problem(
                "golden-mismatch",
                str(error),
                more={"differences": [asdict(difference) for difference in error.differences]},
            )
        case GoldenMissing():
            return Problem("golden-missing", str(error))
        case GoldenUnanswered():
            return Problem("golden-unanswered", str(error))
        case ReleaseConflict():
            return Problem("release-conflict", str(error))
        case NotWaiting() | NotThere():
            return Problem("conflict", str(error))
        case Removed():
            return Problem("result-purged", str(error))
        case Unreachable():
            logger.error("the storage is away", exc_info=error)
            return Problem("unavailable", str(error))
        case RequestDataTooBig():
            return Problem("too-large", "The body is larger than MAX_REQUEST_BYTES allows.")
        case Unavailable():
            return Problem("not-available", str(error))
        case Full():
            slug = "quota-exceeded" if error.of_team else "system-full"
            return Problem(slug, str(error), headers={"Retry-After": str(error.retry_after)})
        case UnknownModel() | Http404() | exceptions.NotFound():
            return Problem("not-found", str(error) or "not found")
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return Problem("unauthenticated", str(error.detail), headers={"WWW-Authenticate": "Bearer"})
        case exceptions.PermissionDenied() | PermissionDenied():
            return Problem("forbidden", str(error))
        case exceptions.MethodNotAllowed():
            return Problem("method-not-allowed", str(error.detail))
        case exceptions.NotAcceptable():
            return Problem("not-acceptable", str(error.detail))
        case exceptions.UnsupportedMediaType():
            return Problem("unsupported-media-type", str(error.detail))
        case exceptions.ParseError():
            return Problem("malformed", str(error.detail))
        case exceptions.ValidationError():
            faults = tuple(_flatten(error.detail))
            return Problem("invalid-input", _first(faults), faults=faults)
        case OperationalError() | InterfaceError():
            logger.error("the database is away", exc_info=error)
            replace_broken()
            return Problem("unavailable", "The database is away, try again.")
        case _:
            logger.error("unforeseen", exc_info=error)
            return Problem("internal-error", "An error that nobody foresaw; it was logged.")


def exception_handler(error: Exception, context: dict[str, Any]) -> HttpResponse:
    """Answer for Django REST framework's views."""
    set_rollback()
    request = context["request"]
    response = problem_response(request, as_problem(error))
    if isinstance(error, exceptions.MethodNotAllowed):
        response["Allow"] = ", ".join(context["view"].allowed_methods)
    return response


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer for a form without its token (settings.CSRF_FAILURE_VIEW)."""
    if request.path.startswith("/admin/"):
        return django_csrf_failure(request, reason)
    return problem_response(request, Problem("forbidden", f"The CSRF check failed: {reason}"))


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for a path that no route has (urls.handler404): to programs, and to people who strayed in the admin."""
    if request.path.startswith("/admin/"):
        return render(request, "not_found.html", status=404)
    return problem_response(request, Problem("not-found", f"There is nothing at {request.path}."))


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for what Django itself refuses (urls.handler400), such as an unknown Host."""
    if isinstance(exception, RequestDataTooBig):
        return problem_response(request, Problem("too-large", str(exception)))
    return problem_response(
        request, Problem("malformed", "The request was refused; is the Host header one of ALLOWED_HOSTS?")
    )


def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for an error outside Django REST framework (urls.handler500); Django has logged it."""
    return problem_response(request, Problem("internal-error", "An error that nobody foresaw; it was logged."))


def _first(faults: tuple[Fault, ...]) -> str:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{faults[0].pointer or 'body'}: {faults[0].detail}{more}"


def _flatten(detail: Any, pointer: str = "") -> list[Fault]:
    if isinstance(detail, dict):
        return [
            fault
            for key, value in detail.items()
            for fault in _flatten(value, pointer if key == "non_field_errors" else f"{pointer}/{escape(str(key))}")
        ]
    if isinstance(detail, list):
        if all(isinstance(item, str) for item in detail):
            return [Fault(pointer, str(item)) for item in detail]
        return [fault for i, item in enumerate(detail) for fault in _flatten(item, f"{pointer}/{i}")]
    return [Fault(pointer, str(detail))]
