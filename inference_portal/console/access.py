"""Who may do what on the pages: the role decides, not Django's own permissions."""

from typing import Any
from urllib.parse import unquote

from django.contrib.admin.widgets import RelatedFieldWidgetWrapper
from django.core.exceptions import PermissionDenied
from django.db.models import Field
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from unfold.admin import ModelAdmin

from inference_portal.accounts.callers import Caller, caller_from_user
from inference_portal.accounts.models import Role, User


def caller_of(request: HttpRequest) -> Caller | None:
    """Return who is logged in; None for nobody, an inactive user, or one without a team."""
    user = request.user
    return caller_from_user(user) if isinstance(user, User) and user.is_active else None


def require(request: HttpRequest, role: Role) -> Caller:
    """Return who is logged in. Raises PermissionDenied when the role isn't enough."""
    caller = caller_of(request)
    if caller is None or not caller.role.allows(role):
        raise PermissionDenied(f"This needs the role '{role}'.")
    return caller


class RoleAdmin(ModelAdmin):
    """Read by whoever has the role `readers`, written by `writers` (None: by nobody)."""

    class Media:
        css = {"all": ("console/console.css",)}

    readers = Role.VIEWER
    writers: Role | None = None

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Tell whether the admin's index knows of it."""
        return _allows(request, self.readers)

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Tell whether it may be read; which objects exist is up to get_queryset."""
        return _allows(request, self.readers)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Tell whether one may be made."""
        return _allows(request, self.writers)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Tell whether it may be changed."""
        return _allows(request, self.writers)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Tell whether it may be deleted."""
        return _allows(request, self.writers)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list; a filter that holds NUL, which PostgreSQL takes as an error, is left out with the others."""
        if "\0" in unquote(request.META.get("QUERY_STRING", "")):
            return redirect(request.path)
        response: HttpResponse = super().changelist_view(request, extra_context)
        return response

    def formfield_for_dbfield(self, db_field: "Field[Any, Any]", request: HttpRequest, **kwargs: Any) -> Any:
        """Return the field without buttons to edit what it refers to: they open frames, which the portal forbids."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and isinstance(field.widget, RelatedFieldWidgetWrapper):
            field.widget = field.widget.widget
        return field


class OperatorAdmin(RoleAdmin):
    """For operators only."""

    readers = Role.OPERATOR
    writers = Role.OPERATOR


def _allows(request: HttpRequest, role: Role | None) -> bool:
    caller = caller_of(request)
    return caller is not None and role is not None and caller.role.allows(role)
