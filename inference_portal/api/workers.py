"""GET /api/workers/: who was heard within the last day, what it serves and what it runs now."""

from dataclasses import asdict
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api.schemas import operators as schemas
from inference_portal.jobs.models import Worker
from inference_portal.jobs.runs import runs_by_worker


class WorkerSerializer(serializers.ModelSerializer[Worker]):
    """A worker by its last heartbeat, and what it runs (`runs` of the context)."""

    alive = serializers.BooleanField(source="is_alive")
    models = serializers.JSONField(source="serves")
    runs = serializers.SerializerMethodField()

    class Meta:
        model = Worker
        fields = ("name", "alive", "seen_at", "host", "pools", "device", "processes", "models", "problems", "runs")

    def get_runs(self, worker: Worker) -> list[dict[str, Any]]:
        """Return the bundles that its processes have in hand."""
        return [asdict(run) for run in self.context["runs"].get(worker.name, [])]


class WorkerListView(APIView):
    """GET all workers."""

    required_role = Role.OPERATOR

    @extend_schema(**schemas.WORKERS)
    def get(self, request: Request) -> Response:
        """Return those that were heard last first."""
        workers = Worker.objects.order_by("-seen_at", "name")
        listed = WorkerSerializer(workers, many=True, context={"runs": runs_by_worker()})
        return Response({"results": listed.data})
