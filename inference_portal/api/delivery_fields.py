"""A delivery as /api/ shows it."""

from rest_framework import serializers

from inference_portal.deliveries.models import Delivery, DeliveryAttempt


class DeliveryAttemptSerializer(serializers.ModelSerializer[DeliveryAttempt]):
    """One try, and what was answered."""

    class Meta:
        model = DeliveryAttempt
        fields = ("number", "at", "seconds", "status", "error", "excerpt")


class DeliverySerializer(serializers.ModelSerializer[Delivery]):
    """A delivery, and how far it is."""

    team = serializers.CharField(source="team.name", read_only=True)
    job = serializers.UUIDField(source="job_id", read_only=True)
    batch = serializers.UUIDField(source="batch_id", read_only=True)
    sink = serializers.CharField(read_only=True)
    webhook = serializers.UUIDField(source="endpoint_id", read_only=True)

    class Meta:
        model = Delivery
        fields = (
            "id", "team", "job", "batch", "event_id", "event_type", "webhook", "sink", "url", "state", "tries",
            "status", "error", "created_at", "due_at", "finished_at",
        )  # fmt: skip


class DeliveryDetailSerializer(DeliverySerializer):
    """A delivery with its tries."""

    attempts = DeliveryAttemptSerializer(many=True, read_only=True)

    class Meta(DeliverySerializer.Meta):
        fields = (*DeliverySerializer.Meta.fields, "attempts")  # type: ignore[assignment]
