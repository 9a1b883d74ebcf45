"""The rest of the Open Inference Protocol: health, metadata, configuration, statistics, the list of models."""

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.db import connection
from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from inference_portal import VERSION
from inference_portal.accounts.models import Role
from inference_portal.api.body import read_object
from inference_portal.api.schemas import server as schemas
from inference_portal.catalog.traffic import choose, current
from inference_portal.errors import Problem
from inference_portal.jobs.models import ModelStatistics, Worker
from inference_portal.store import model_store
from workers.formats import Fault, Invalid, json_v2
from workers.manifest import Manifest

EXTENSIONS = ["binary_tensor_data", "model_configuration", "statistics"]


class ServerView(APIView):
    """GET /v2."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(**schemas.SERVER)
    def get(self, request: Request) -> HttpResponse:
        """Return the server's metadata."""
        return JsonResponse({"name": "inference-portal", "version": VERSION, "extensions": EXTENSIONS})


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

    @extend_schema(**schemas.MODEL_METADATA)
    def get(self, request: Request, model: str, version: str | None = None) -> HttpResponse:
        """Return the model's metadata, from its manifest."""
        release = choose(model, version)
        return JsonResponse(json_v2.metadata(release.manifest, [version] if version else versions_of(model)))


class ModelReadyView(APIView):
    """GET /v2/models/{model}[/versions/{version}]/ready."""

    @extend_schema(**schemas.MODEL_READY)
    def get(self, request: Request, model: str, version: str | None = None) -> HttpResponse:
        """Say whether a worker that can serve the model was heard lately, or its pool may scale from zero."""
        manifest = choose(model, version).manifest
        if not ready([manifest]):
            detail = f"No worker that serves {served_as(manifest)} was heard lately; requests wait for one."
            raise Problem("not-ready", detail)
        return JsonResponse({"name": model, "ready": True})


class ModelConfigView(APIView):
    """GET /v2/models/{model}[/versions/{version}]/config."""

    @extend_schema(**schemas.MODEL_CONFIG)
    def get(self, request: Request, model: str, version: str | None = None) -> HttpResponse:
        """Return the model's configuration, from its manifest."""
        return JsonResponse(json_v2.configuration(choose(model, version).manifest))


class ModelStatsView(APIView):
    """GET /v2/models/{model}[/versions/{version}]/stats."""

    @extend_schema(**schemas.MODEL_STATS)
    def get(self, request: Request, model: str, version: str | None = None) -> HttpResponse:
        """Return what each version has done, as counted with each result."""
        release = choose(model, version)
        versions = [release.manifest.version] if version else versions_of(model)
        sums = {each.version: each for each in ModelStatistics.objects.filter(model=model, version__in=versions)}
        return JsonResponse(
            {"model_stats": [_stats(sums.get(v) or ModelStatistics(model=model, version=v)) for v in versions]}
        )


class RepositoryIndexView(APIView):
    """POST /v2/repository/index."""

    # It changes nothing.
    required_role = Role.VIEWER

    @extend_schema(**schemas.REPOSITORY_INDEX)
    def post(self, request: Request) -> HttpResponse:
        """List all versions of all models; with {"ready": true} only those that can be served now."""
        only_ready = read_object(request).get("ready", False)
        if not isinstance(only_ready, bool):
            raise Invalid(Fault("/ready", "expected true or false"))
        releases = model_store().snapshot().releases
        manifests = [
            releases[model][version].manifest for model in sorted(releases) for version in _sorted(releases[model])
        ]
        able, retired = ready(manifests), current().retired
        index = []
        for manifest in manifests:
            reason = "" if served_as(manifest) in able else "no worker that serves it was heard lately"
            if (manifest.model, manifest.version) in retired:
                reason = "retired"
            if not (only_ready and reason):
                state = "UNAVAILABLE" if reason else "READY"
                index.append({"name": manifest.model, "version": manifest.version, "state": state, "reason": reason})
        return JsonResponse(index, safe=False)


def versions_of(model: str) -> list[str]:
    """Return a model's versions in their order, without the retired ones."""
    retired = current().retired
    return _sorted(v for v in model_store().snapshot().releases.get(model, {}) if (model, v) not in retired)


def served_as(manifest: Manifest) -> str:
    """Return what workers call it in their heartbeats."""
    return f"{manifest.model}:{manifest.version}"


def ready(manifests: list[Manifest]) -> set[str]:
    """Return (as `served_as`) those that a living worker serves, and those whose pool may scale from zero."""
    served = {name for serves in Worker.objects.alive().values_list("serves", flat=True) for name in serves}
    return {
        served_as(manifest)
        for manifest in manifests
        if served_as(manifest) in served or manifest.pool in settings.SCALE_FROM_ZERO
    }


def _sorted(versions: Iterable[str]) -> list[str]:
    return sorted(versions, key=int)


def _stats(sums: ModelStatistics) -> dict[str, Any]:
    """Return the sums as the protocol's statistics extension has them: counts, and nanoseconds added up."""

    def part(count: int, microseconds: int) -> dict[str, int]:
        return {"count": count, "ns": microseconds * 1_000}

    return {
        "name": sums.model,
        "version": sums.version,
        "last_inference": 0 if sums.last_at is None else int(sums.last_at.timestamp() * 1_000),
        "inference_count": sums.rows,
        "execution_count": sums.executions,
        "inference_stats": {
            "success": part(sums.succeeded, sums.total_us),
            "fail": part(sums.failed, sums.failed_us),
            "queue": part(sums.succeeded, sums.queue_us),
            # A worker measures a run as a whole.
            "compute_input": part(sums.succeeded, 0),
            "compute_infer": part(sums.succeeded, sums.run_us),
            "compute_output": part(sums.succeeded, 0),
            "cache_hit": part(0, 0),
            "cache_miss": part(0, 0),
        },
        "batch_stats": [],
    }
