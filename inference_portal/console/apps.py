"""What people see."""

from django.apps import AppConfig


class ConsoleConfig(AppConfig):
    """Pages for web users and operators."""

    name = "inference_portal.console"
