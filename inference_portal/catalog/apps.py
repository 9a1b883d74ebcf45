"""Releases of models."""

from django.apps import AppConfig


class CatalogConfig(AppConfig):
    """The app that owns the traffic and its history."""

    name = "inference_portal.catalog"
    verbose_name = "Models"
