"""How much waits for a person."""

from inference_portal.jobs.models import Job, ParkedMessage

# Counting more would cost more than the number is worth.
COUNTED = 1_000


def dead_letter_count() -> str:
    """Return how many dead letters wait."""
    return _text(Job.objects.dead_letters()[:COUNTED].count())


def parked_message_count() -> str:
    """Return how many messages wait that nobody could read."""
    return _text(ParkedMessage.objects.filter(discarded_at=None)[:COUNTED].count())


def _text(count: int) -> str:
    return f"{count:,}+" if count == COUNTED else str(count)
