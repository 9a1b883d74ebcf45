"""What the OpenAPI page says about each route: parameters, bodies, answers, an example each. One file a resource."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension


class KeyScheme(OpenApiAuthenticationExtension):
    """Tell the OpenAPI page about API keys."""

    target_class = "inference_portal.api.auth.KeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme."""
        return {"type": "http", "scheme": "bearer", "description": "An API key of a team"}


class BrowserScheme(OpenApiAuthenticationExtension):
    """Tell the OpenAPI page about logged-in browsers."""

    target_class = "inference_portal.api.auth.BrowserAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: Any) -> dict[str, str]:
        """Return the security scheme."""
        return {"type": "apiKey", "in": "cookie", "name": "sessionid"}
