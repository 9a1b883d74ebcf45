"""A job as /api/ shows it."""

from typing import Any

from rest_framework import serializers

from inference_portal.api import answers
from inference_portal.api.delivery_fields import DeliverySerializer
from inference_portal.jobs.models import Attempt, Job


class AttemptSerializer(serializers.ModelSerializer[Attempt]):
    """One attempt: where, when and how it ended."""

    class Meta:
        model = Attempt
        fields = ("number", "worker", "host", "device", "started_at", "finished_at", "code", "message")


class JobSerializer(serializers.ModelSerializer[Job]):
    """A job without its payload."""

    team = serializers.CharField(source="team.name", read_only=True)
    priority = serializers.CharField(source="get_priority_display", read_only=True)
    labels = serializers.ListField(source="label_list", child=serializers.CharField(), read_only=True)
    error = serializers.SerializerMethodField()
    status_path = serializers.CharField(read_only=True)
    result_path = serializers.CharField(read_only=True)

    class Meta:
        model = Job
        fields = (
            "id", "team", "submitted_by", "model", "version", "state", "priority", "ordering_key", "labels", "attempt",
            "failures", "isolated", "rows", "accepted_at", "queued_at", "expires_at", "started_at", "finished_at",
            "purged_at", "worker", "host", "device", "error", "status_path", "result_path",
        )  # fmt: skip

    def get_error(self, job: Job) -> dict[str, str] | None:
        """Return why it failed or is tried again."""
        return answers.error(job)


class JobDetailSerializer(JobSerializer):
    """A job with its attempts."""

    attempts = AttemptSerializer(many=True, source="all_attempts")
    deliveries = serializers.SerializerMethodField()

    class Meta(JobSerializer.Meta):
        fields = (*JobSerializer.Meta.fields, "idempotency_key", "sink", "attempts", "deliveries")  # type: ignore[assignment]

    def get_deliveries(self, job: Job) -> list[Any]:
        """Return where its result went, and how far it got."""
        return list(
            DeliverySerializer(job.deliveries.select_related("team").order_by("created_at", "id"), many=True).data
        )
