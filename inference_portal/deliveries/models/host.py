"""Receivers that don't answer, so that they hold up no others."""

from django.db import models


class Host(models.Model):
    """A host with its port. Until `closed_until` nothing is sent there; then one call at a time tries it."""

    name = models.CharField(max_length=255, primary_key=True)
    # In a row, of all that goes there.
    failures = models.PositiveIntegerField(default=0)
    closed_until = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name
