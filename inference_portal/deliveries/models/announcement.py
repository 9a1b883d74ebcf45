"""Events that subscribers are still to hear of."""

from django.db import models


class Announcement(models.Model):
    """CloudEvents for the exchange, made in the transaction that made them; removed once the broker has them.

    One row, with a JSON list, for all jobs of a bundle: a row for each cost the recorder three times as much.
    """

    events = models.BinaryField()

    def __str__(self) -> str:
        return f"announcement {self.pk}"
