"""The job record and its flow."""

from django.apps import AppConfig


class JobsConfig(AppConfig):
    """The app that owns the jobs."""

    name = "inference_portal.jobs"
    verbose_name = "Inference"
