"""The table of problems, and the way from an exception to an answer."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.db import OperationalError
from django.http import Http404
from django.test import Client, RequestFactory
from rest_framework import exceptions

from inference_portal.api.answers import job_problem
from inference_portal.errors import PROBLEMS, Problem, as_problem, problem_response
from inference_portal.jobs.models import Job
from inference_portal.jobs.quota import Full
from inference_portal.jobs.repeats import AlreadyAccepted
from inference_portal.jobs.retry import decide
from inference_portal.jobs.states import FINAL, Event, State, target
from workers.contract import ErrorCode
from workers.formats import Fault, Invalid, Malformed, TooLarge, Unavailable
from workers.manifest import Policy
from workers.model_store import UnknownModel
from workers.template.yaml_file import ManifestError

# Trying the same again may work: the situation passes, nobody has to correct anything.
RETRYABLE = {
    "golden-unanswered", "internal-error", "quota-exceeded", "no-place-to-wait", "unavailable", "system-full",
    "not-ready",
}  # fmt: skip


@pytest.mark.parametrize("slug", PROBLEMS)
def test_every_problem_has_a_page_that_explains_it(slug: str) -> None:
    for path in (f"/problems/{slug}", f"/problems/{slug}/"):
        response = Client().get(path)
        assert response.status_code == 200
        assert response["Content-Type"].startswith("text/html")
        assert slug in response.content.decode()


def test_one_page_lists_all_problems() -> None:
    page = Client().get("/problems/").content.decode()
    assert all(slug in page for slug in PROBLEMS)


@pytest.mark.parametrize("path", ["/problems/", "/problems/bad-data", "/problems/bad-data/"])
def test_pages_are_only_read(path: str) -> None:
    browser = Client(enforce_csrf_checks=True)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        response = browser.generic(method, path)
        assert (response.status_code, response["Allow"]) == (405, "GET, HEAD, OPTIONS")
        assert response.json()["type"] == "/problems/method-not-allowed"
    assert (browser.head(path).status_code, browser.head(path).content) == (200, b"")
    for accept in ("text/html", "application/json", "image/png"):
        assert browser.get(path, headers={"Accept": accept})["Content-Type"].startswith("text/html")


def test_the_page_of_an_unknown_problem_is_a_problem() -> None:
    response = Client().get("/problems/none-such")
    assert (response.status_code, response["Content-Type"]) == (404, "application/problem+json")


def test_a_path_that_no_route_has_is_a_problem() -> None:
    response = Client().get("/no/such/path")
    assert response.json()["type"] == "/problems/not-found"
    assert "error" not in response.json()
    for path, under_v2 in (("/v2/no/such/path", True), ("/v2/", True), ("/v2x", False), ("/v2x/models", False)):
        assert ("error" in Client().get(path).json()) is under_v2, path


def test_problems_are_retryable_exactly_when_the_situation_passes() -> None:
    assert {slug for slug, kind in PROBLEMS.items() if kind.retryable} == RETRYABLE


@pytest.mark.parametrize("slug", PROBLEMS)
def test_every_problem_is_complete(slug: str) -> None:
    kind = PROBLEMS[slug]
    assert 400 <= kind.status < 600
    assert kind.title
    assert kind.explanation.endswith(".")
    response = problem_response(RequestFactory().get("/x"), Problem(slug, "what happened"))
    assert (response.status_code, response["Content-Type"]) == (kind.status, "application/problem+json")
    assert json.loads(response.content) == {
        "type": f"/problems/{slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": "what happened",
        "instance": "/x",
        "retryable": kind.retryable,
    }
    assert response.has_header("Retry-After") == (kind.status in (429, 503))


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_that_ends_a_job_has_its_problem(code: ErrorCode) -> None:
    final = target(decide(code, failures=20, isolated=True, policy=Policy(), jitter=0.0, refusals=20).event)
    problem = job_problem(Job(state=final, error_code=code, error_message="why", attempt=3))
    expected = {
        ErrorCode.BAD_DATA: "bad-data",
        ErrorCode.MODEL_ERROR: "model-error",
        ErrorCode.CONTAINER_ERROR: "container-error",
        ErrorCode.EXPIRED: "expired",
    }
    assert problem.slug == expected.get(code, "dead-lettered")
    assert "why" in problem.detail


def test_every_final_state_without_a_result_has_its_problem() -> None:
    jobs = [Job(state=state, error_code=ErrorCode.MODEL_ERROR) for state in FINAL - {State.SUCCEEDED}]
    assert {job_problem(job).slug for job in jobs} == {"model-error", "dead-lettered", "cancelled", "expired"}
    assert job_problem(Job(state=target(Event.CANCEL))).slug == "cancelled"


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (Problem("conflict", "x"), "conflict"),
        (AlreadyAccepted("x"), "unavailable"),
        (Malformed("x"), "malformed"),
        (Invalid(Fault("/a", "x")), "invalid-input"),
        (TooLarge("x"), "too-large"),
        (RequestDataTooBig("x"), "too-large"),
        (Unavailable("x"), "not-available"),
        (Full("x", of_team=True, retry_after=7), "quota-exceeded"),
        (Full("x", of_team=False, retry_after=7), "system-full"),
        (UnknownModel("x"), "not-found"),
        (Http404(), "not-found"),
        (exceptions.NotFound(), "not-found"),
        (exceptions.NotAuthenticated(), "unauthenticated"),
        (exceptions.AuthenticationFailed(), "unauthenticated"),
        (exceptions.PermissionDenied(), "forbidden"),
        (PermissionDenied("x"), "forbidden"),
        (exceptions.MethodNotAllowed("PUT"), "method-not-allowed"),
        (exceptions.NotAcceptable(), "not-acceptable"),
        (exceptions.UnsupportedMediaType("text/csv"), "unsupported-media-type"),
        (exceptions.ParseError(), "malformed"),
        (exceptions.ValidationError({"model": ["unknown"]}), "invalid-input"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value,
)
def test_every_exception_that_is_foreseen_has_its_problem(error: Exception, slug: str) -> None:
    assert as_problem(error).slug == slug


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (OperationalError("server closed the connection"), "unavailable"),
        (KeyError("secret"), "internal-error"),
        (ManifestError(Path("m"), 1, "secret"), "internal-error"),
    ],
)
def test_what_is_our_fault_is_logged_and_its_text_is_not_told(
    caplog: pytest.LogCaptureFixture, error: Exception, slug: str
) -> None:
    with caplog.at_level(logging.ERROR):
        problem = as_problem(error)
    assert problem.slug == slug
    assert str(error) not in problem.detail
    assert caplog.records[0].exc_info is not None


def test_a_full_queue_says_when_to_try_again() -> None:
    answer = problem_response(RequestFactory().get("/x"), as_problem(Full("x", of_team=True, retry_after=7)))
    assert (answer.status_code, answer["Retry-After"]) == (429, "7")


def test_faults_are_listed_with_their_pointers() -> None:
    problem = as_problem(Invalid(Fault("/instances/0", "bad"), Fault("", "worse")))
    body = json.loads(problem_response(RequestFactory().get("/v2/models/m/infer"), problem).content)
    assert body["errors"] == [{"pointer": "/instances/0", "detail": "bad"}, {"pointer": "", "detail": "worse"}]
    assert body["detail"] == body["error"] == "/instances/0: bad (and 1 more)"


@pytest.mark.parametrize(
    ("detail", "expected"),
    [
        ({"model": ["unknown"]}, [("/model", "unknown")]),
        ({"non_field_errors": ["both"]}, [("", "both")]),
        ({"jobs": [{}, {"rows": ["none"]}]}, [("/jobs/1/rows", "none")]),
        (["wrong", "bad"], [("", "wrong"), ("", "bad")]),
        ({"a/b": ["x"]}, [("/a~1b", "x")]),
    ],
    ids=str,
)
def test_the_framework_s_errors_get_pointers_too(detail: Any, expected: list[tuple[str, str]]) -> None:
    problem = as_problem(exceptions.ValidationError(detail))
    assert [(fault.pointer, fault.detail) for fault in problem.faults] == expected
