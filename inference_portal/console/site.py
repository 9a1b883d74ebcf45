"""The admin site: who may enter, and the pages that aren't about one of Django's models."""

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.sites import UnfoldAdminSite

from inference_portal.accounts.models import Role
from inference_portal.console import dashboard, model_page, predict
from inference_portal.console.access import caller_of, require
from inference_portal.console.login import LoginForm


class PortalSite(UnfoldAdminSite):
    """Open to every active user who belongs to a team; what one sees there depends on the role."""

    login_form = LoginForm
    login_template = "console/login.html"
    index_template = "console/dashboard.html"
    index_title = "Dashboard"

    def has_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may enter."""
        return caller_of(request) is not None

    def extra_urls(self) -> list[URLPattern]:
        """Return the routes of our own pages (called by Unfold)."""
        return [
            path("predict/", self.admin_view(predict.choose), name="predict"),
            path("predict/<str:model>/<str:version>/", self.admin_view(predict.predict), name="predict_model"),
            path("models/", self.admin_view(model_page.model_list), name="models"),
        ]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show what happened lately instead of a list of tables."""
        context = dashboard.context(require(request, Role.VIEWER))
        response: TemplateResponse = super().index(request, {**context, **(extra_context or {})})
        return response
