"""The OpenAPI document, its page, and the pages that explain the problem types."""

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView
from rest_framework.exceptions import NotAuthenticated

from inference_portal.api.auth import RolePermission
from inference_portal.errors import PROBLEMS, Problem, problem_response


class SchemaView(SpectacularAPIView):
    """GET /api/schema/."""

    permission_classes = [RolePermission]


class DocsView(SpectacularSwaggerView):
    """GET /api/docs/. A browser that isn't logged in is sent to the login."""

    http_method_names = ["get", "head"]

    permission_classes = [RolePermission]

    def handle_exception(self, error: Exception) -> Any:
        """Send people to the login page, and answer programs with a problem."""
        if isinstance(error, NotAuthenticated) and "text/html" in self.request.headers.get("Accept", ""):
            return redirect_to_login(self.request.get_full_path())
        return super().handle_exception(error)


@csrf_exempt
def problem_page(request: HttpRequest, slug: str) -> HttpResponse:
    """Explain one problem type."""
    if request.method not in ("GET", "HEAD"):
        return problem_response(request, Problem("method-not-allowed", "Problem types can only be read."))
    kind = PROBLEMS.get(slug)
    if kind is None:
        return problem_response(request, Problem("not-found", f"There is no problem type '{slug}'."))
    return _page(request, {slug: kind})


def problem_list(request: HttpRequest) -> HttpResponse:
    """List all problem types."""
    return _page(request, PROBLEMS)


def _page(request: HttpRequest, problems: dict[str, Any]) -> HttpResponse:
    return render(request, "problems.html", {"problems": problems, "single": len(problems) == 1})
