"""Teams, users and keys."""

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    """The app that knows who may ask."""

    name = "inference_portal.accounts"
    verbose_name = "Teams and access"
