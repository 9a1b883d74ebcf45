"""Whose business Accept is."""

from typing import Any

from rest_framework.negotiation import BaseContentNegotiation


class ByTheView(BaseContentNegotiation):
    """The view's own: what it answers isn't always JSON, the only type that DRF knows here and would insist on."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        """Return DRF's parser; these views read their bodies themselves."""
        return parsers[0]

    def select_renderer(self, request: Any, renderers: Any, format_suffix: str | None = None) -> tuple[Any, str]:
        """Refuse nothing."""
        return renderers[0], renderers[0].media_type
