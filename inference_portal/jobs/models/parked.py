"""Messages that nobody could read."""

from django.db import models


class ParkedMessage(models.Model):
    """A message from the broker's dead-letter queue that is no bundle of ours: kept for a person to look at."""

    # Of its queue, headers and body: the broker may deliver it twice, it is parked once.
    digest = models.CharField(max_length=64, unique=True)
    received_at = models.DateTimeField(auto_now_add=True)
    queue = models.CharField("came from", max_length=255)
    reason = models.CharField(max_length=64)
    error = models.TextField()
    headers = models.TextField()
    body = models.BinaryField()
    size = models.PositiveBigIntegerField()
    discarded_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-received_at", "-id"]

    def __str__(self) -> str:
        return f"message {self.pk} from {self.queue}"
