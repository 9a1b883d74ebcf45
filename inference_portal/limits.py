"""What one request may hold, as the settings say."""

from django.conf import settings

from workers.formats import Limits


def request_limits() -> Limits:
    """Return the limits on rows and columns."""
    return Limits(rows=settings.MAX_REQUEST_ROWS, columns=settings.MAX_REQUEST_COLUMNS)
