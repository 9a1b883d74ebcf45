"""From a request to a Caller, and what its role may do."""

from typing import Any

from rest_framework import authentication, exceptions, permissions
from rest_framework.request import Request

from inference_portal.accounts.callers import Caller, caller_from_key, caller_from_user
from inference_portal.accounts.models import Role, User


def caller_of(request: Request) -> Caller:
    """Return who is asking. Raises NotAuthenticated."""
    if not isinstance(request.user, Caller):
        raise exceptions.NotAuthenticated("Send 'Authorization: Bearer <api key>', or log in.")
    return request.user


def require_role(caller: Caller, required: Role) -> None:
    """Raise PermissionDenied unless the caller's role includes the required one."""
    if not caller.role.allows(required):
        raise exceptions.PermissionDenied(f"This needs the role '{required}', yours is '{caller.role}'.")


class KeyAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer <api key>`."""

    def authenticate(self, request: Request) -> tuple[Caller, None] | None:
        """Return the key's caller; None when no key was sent. A key that doesn't work is 401, also on open paths."""
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return None
        caller = caller_from_key(key.strip())
        if caller is None:
            raise exceptions.AuthenticationFailed("This API key is unknown, revoked or expired.")
        return caller, None

    def authenticate_header(self, request: Request) -> str:
        """Name the scheme in a 401."""
        return "Bearer"


class BrowserAuthentication(authentication.SessionAuthentication):
    """The Django session of a person who has logged in; writing needs the CSRF token."""

    def authenticate(self, request: Request) -> tuple[Any, None] | None:
        """Return the person's caller; None when nobody is logged in."""
        user = getattr(request._request, "user", None)
        if not isinstance(user, User) or not user.is_active:
            return None
        self.enforce_csrf(request)
        caller = caller_from_user(user)
        if caller is None:
            raise exceptions.PermissionDenied("This user belongs to no team; an operator can change that.")
        return caller, None


class RolePermission(permissions.BasePermission):
    """Reading needs a viewer, anything else a submitter, unless the view names another role."""

    def has_permission(self, request: Request, view: Any) -> bool:
        """Tell whether the caller's role allows the method. Raises NotAuthenticated, PermissionDenied."""
        usual = Role.VIEWER if request.method in permissions.SAFE_METHODS else Role.SUBMITTER
        require_role(caller_of(request), getattr(view, "required_role", usual))
        return True
