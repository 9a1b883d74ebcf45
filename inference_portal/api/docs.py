"""The OpenAPI document, its page, and the pages that explain the problem types."""

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpResponse
from django.shortcuts import render
from drf_spectacular.renderers import (
    OpenApiJsonRenderer,
    OpenApiJsonRenderer2,
    OpenApiYamlRenderer,
    OpenApiYamlRenderer2,
)
from drf_spectacular.utils import extend_schema, extend_schema_view
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.exceptions import NotAuthenticated
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from inference_portal.api.auth import RolePermission
from inference_portal.api.negotiation import ByTheView
from inference_portal.api.schemas import pages as schemas
from inference_portal.errors import PROBLEMS, Problem


@extend_schema_view(get=extend_schema(**schemas.SCHEMA))
class SchemaView(SpectacularAPIView):
    """GET /api/schema/: the document, as JSON or YAML by Accept."""

    permission_classes = [RolePermission]
    # JSON for those who don't mind: whoever reads YAML reads that, too.
    renderer_classes = [OpenApiJsonRenderer2, OpenApiJsonRenderer, OpenApiYamlRenderer, OpenApiYamlRenderer2]


@extend_schema_view(get=extend_schema(**schemas.DOCS))
class DocsView(SpectacularSwaggerView):
    """GET /api/docs/. A browser that isn't logged in is sent to the login."""

    http_method_names = ["get", "head"]

    permission_classes = [RolePermission]

    def handle_exception(self, error: Exception) -> Any:
        """Send people to the login page, and answer programs with a problem."""
        if isinstance(error, NotAuthenticated) and "text/html" in self.request.headers.get("Accept", ""):
            return redirect_to_login(self.request.get_full_path())
        return super().handle_exception(error)


class ProblemsView(APIView):
    """A page for people, open to everybody."""

    authentication_classes = []
    permission_classes = [AllowAny]
    content_negotiation_class = ByTheView

    @extend_schema(**schemas.PROBLEMS)
    def get(self, request: Request) -> HttpResponse:
        """List all problem types."""
        return _page(request, PROBLEMS)


class ProblemView(ProblemsView):
    """The same of one problem type."""

    @extend_schema(**schemas.PROBLEM)
    def get(self, request: Request, slug: str) -> HttpResponse:  # type: ignore[override]
        """Explain one problem type."""
        kind = PROBLEMS.get(slug)
        if kind is None:
            raise Problem("not-found", f"There is no problem type '{slug}'.")
        return _page(request, {slug: kind})


def _page(request: Request, problems: dict[str, Any]) -> HttpResponse:
    return render(request._request, "problems.html", {"problems": problems, "single": len(problems) == 1})
