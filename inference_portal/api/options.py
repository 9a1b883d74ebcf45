"""What OPTIONS answers."""

from typing import Any

from rest_framework.metadata import BaseMetadata


class MethodsMetadata(BaseMetadata):
    """The methods of the path; all else is in the OpenAPI document."""

    def determine_metadata(self, request: Any, view: Any) -> dict[str, list[str]]:
        """Return the body of the answer."""
        return {"methods": view.allowed_methods}
