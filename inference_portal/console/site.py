"""The admin site: who may enter, and the pages that aren't about one of Django's models."""

from typing import Any

from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import URLPattern, path
from unfold.sites import UnfoldAdminSite

from inference_portal.accounts.models import Role
from inference_portal.console import dashboard, model_page, new_batch, predict, traffic_page, version_page
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
        release, retire = self.admin_view(traffic_page.release), self.admin_view(traffic_page.retire)
        check, compare = self.admin_view(version_page.check), self.admin_view(version_page.compare)
        return [
            path("predict/", self.admin_view(predict.choose), name="predict"),
            path("predict/<str:model>/<str:version>/", self.admin_view(predict.predict), name="predict_model"),
            path("new-batch/", self.admin_view(new_batch.new), name="new_batch"),
            path("models/", self.admin_view(model_page.model_list), name="models"),
            path("models/<str:model>/", self.admin_view(traffic_page.model), name="model"),
            path("models/<str:model>/rollback/", self.admin_view(traffic_page.rollback), name="model_rollback"),
            path("models/<str:model>/<str:version>/check/", check, name="model_check"),
            path("models/<str:model>/<str:version>/compare/", compare, name="model_compare"),
            path("models/<str:model>/<str:version>/release/", release, name="model_release"),
            path("models/<str:model>/<str:version>/retire/", retire, name="model_retire"),
        ]

    def index(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> TemplateResponse:
        """Show what happened lately instead of a list of tables."""
        context = dashboard.context(require(request, Role.VIEWER))
        response: TemplateResponse = super().index(request, {**context, **(extra_context or {})})
        return response
