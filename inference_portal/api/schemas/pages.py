"""The OpenAPI document, and the pages for people."""

from typing import Any

from drf_spectacular.utils import OpenApiExample, OpenApiResponse

from inference_portal.api.schemas.components import Schema
from inference_portal.api.schemas.parts import ASKED, DENIED, UNKNOWN, at, problems

_HTML = "text/html"
_PAGE: Schema = {"type": "string"}
# The types of the document, the usual one first.
_DOCUMENT = ("application/json", "application/vnd.oai.openapi+json", "application/vnd.oai.openapi", "application/yaml")
_BEGINNING = {"openapi": "3.1.1", "info": {"title": "Inference portal", "version": "0.1.0"}, "paths": {}}


def _page(summary: str, text: str, description: str) -> OpenApiResponse:
    example = OpenApiExample("example", f"<!doctype html><title>{summary}</title>{text}")
    return OpenApiResponse(_PAGE, description, [example])


SCHEMA: dict[str, Any] = {
    "tags": ["Documentation"],
    "summary": "This document",
    "description": "As JSON, or as YAML by `Accept`.",
    "operation_id": "schema",
    # The library leaves its own pages out unless told.
    "exclude": False,
    "parameters": ASKED,
    "responses": {
        (200, *_DOCUMENT): OpenApiResponse(
            {"type": "object"}, "OpenAPI 3.1", [OpenApiExample("its beginning", _BEGINNING)]
        ),
        **problems(DENIED),
    },
}
DOCS: dict[str, Any] = {
    "tags": ["Documentation"],
    "summary": "This document as a page",
    "description": "A browser that isn't logged in is sent to the login.",
    "operation_id": "docs",
    "exclude": False,
    "parameters": ASKED,
    "responses": {(200, _HTML): _page("Inference portal", "…", "the page"), **problems(DENIED)},
}
PROBLEMS: dict[str, Any] = {
    "tags": ["Documentation"],
    "summary": "All kinds of problems",
    "operation_id": "problems",
    "auth": [],
    "responses": {(200, _HTML): _page("Problem types", "<h1>Problem types</h1>", "a page that explains them")},
}
PROBLEM: dict[str, Any] = {
    "tags": ["Documentation"],
    "summary": "One kind of problem",
    "description": "Where `type` of a problem leads.",
    "operation_id": "problem",
    "auth": [],
    "parameters": [at("slug", {"type": "string", "pattern": "^[a-z-]+$"}, "a kind of problem", "bad-data")],
    "responses": {
        (200, _HTML): _page("The model refused the data", "<h1>A problem, explained</h1>", "a page that explains it"),
        **problems({404: UNKNOWN[404]}),
    },
}
