"""The rest of the Open Inference Protocol: health and metadata."""

from django.db import connection
from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from inference_portal.api import schemas
from inference_portal.errors import Problem
from inference_portal.jobs.models import Worker
from inference_portal.store import model_store
from workers.formats import json_v2


class ServerView(APIView):
    """GET /v2."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(**schemas.SERVER)
    def get(self, request: Request) -> HttpResponse:
        """Return the server's metadata."""
        return JsonResponse({"name": "inference-portal", "version": "0.1.0", "extensions": []})


class LiveView(APIView):
    """GET /v2/health/live."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(**schemas.LIVE)
    def get(self, request: Request) -> HttpResponse:
        """Say that this process answers."""
        return JsonResponse({"live": True})


class ReadyView(APIView):
    """GET /v2/health/ready."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(**schemas.READY)
    def get(self, request: Request) -> HttpResponse:
        """Say that requests are accepted: the database answers and the model store holds models."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
        if not model_store().snapshot().releases:
            raise Problem("not-ready", "The model store holds no model that can be served.")
        return JsonResponse({"ready": True})


class ModelView(APIView):
    """GET /v2/models/{model}[/versions/{version}]."""

    @extend_schema(**schemas.MODEL)
    def get(self, request: Request, model: str, version: str | None = None) -> HttpResponse:
        """Return the model's metadata, from its manifest."""
        release = model_store().get(model, version)
        versions = sorted(model_store().snapshot().releases.get(model, {}), key=int)
        return JsonResponse(json_v2.metadata(release.manifest, [version] if version else versions))


class ModelReadyView(APIView):
    """GET /v2/models/{model}[/versions/{version}]/ready."""

    @extend_schema(**schemas.MODEL_READY)
    def get(self, request: Request, model: str, version: str | None = None) -> HttpResponse:
        """Say whether a worker that can serve the model was heard lately."""
        manifest = model_store().get(model, version).manifest
        served = f"{manifest.model}:{manifest.version}"
        if not any(served in serves for serves in Worker.objects.alive().values_list("serves", flat=True)):
            raise Problem("not-ready", f"No worker that serves {served} was heard lately; requests wait for one.")
        return JsonResponse({"name": model, "ready": True})
