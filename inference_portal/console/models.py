"""Views of others' tables that have a list of their own."""

from inference_portal.jobs.models import Job


class DeadLetter(Job):
    """A job as something that was given up; the same rows."""

    class Meta:
        proxy = True
        verbose_name = "dead letter"
