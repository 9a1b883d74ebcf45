"""The portal itself: its commands and its checks."""

from django.apps import AppConfig


class InferencePortalConfig(AppConfig):
    """Holds the management commands and registers the system checks."""

    name = "inference_portal"

    def ready(self) -> None:
        """Register the system checks."""
        from inference_portal import checks  # noqa: F401
