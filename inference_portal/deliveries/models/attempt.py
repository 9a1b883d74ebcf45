"""What became of each try."""

from django.db import models

from inference_portal.deliveries.models.delivery import Delivery


class DeliveryAttempt(models.Model):
    """One try. `status` is None where no answer came, `error` then says why."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    at = models.DateTimeField()
    seconds = models.FloatField(null=True)
    status = models.PositiveSmallIntegerField(null=True)
    error = models.CharField(max_length=255, default="", blank=True)
    # The beginning of the answer's body.
    excerpt = models.TextField(default="", blank=True)

    class Meta:
        ordering = ["number"]
        constraints = [models.UniqueConstraint(fields=["delivery", "number"], name="attempt_one_of_a_number")]

    def __str__(self) -> str:
        return f"{self.delivery_id} try {self.number}"
