"""Batch runs."""

from django.apps import AppConfig


class BatchesConfig(AppConfig):
    """The app that owns batches, their chunks and what happened to them."""

    name = "inference_portal.batches"
    verbose_name = "Batches"
