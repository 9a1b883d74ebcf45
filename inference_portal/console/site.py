"""The admin site: who may enter, and what is in the sidebar."""

from django.http import HttpRequest
from unfold.sites import UnfoldAdminSite


class PortalSite(UnfoldAdminSite):
    """Open to every active user who belongs to a team; what one sees there depends on the role."""

    def has_permission(self, request: HttpRequest) -> bool:
        """Tell whether the user may enter."""
        user = request.user
        return bool(user.is_active and getattr(user, "team_id", None))
