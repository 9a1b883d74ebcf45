"""For load balancers and supervisors: is the process alive, can it work, what is missing."""

from django.db import DatabaseError
from django.http import HttpResponse, JsonResponse
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.views import APIView

from inference_portal.api.schemas import server as schemas
from inference_portal.errors import Problem
from inference_portal.jobs.models import Worker
from inference_portal.store import model_store
from workers import topology


class AliveView(APIView):
    """GET /healthz."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(**schemas.HEALTHZ)
    def get(self, request: Request) -> HttpResponse:
        """Answer that the process is alive."""
        return JsonResponse({"status": "ok"})


class CanWorkView(APIView):
    """GET /readyz."""

    authentication_classes = []
    permission_classes = [AllowAny]

    @extend_schema(**schemas.READYZ)
    def get(self, request: Request) -> HttpResponse:
        """Answer 200, or 503 without database or model store, each with what was looked at. Missing workers only
        degrade: requests wait for them."""
        try:
            lanes = list(Worker.objects.alive().values_list("pools", flat=True))
            database = True
        except DatabaseError:
            lanes, database = [], False
        workers = sum(not all(lane.endswith(topology.ISOLATED) for lane in read) for read in lanes)
        missing = [
            topology.lane(pool, isolated=True)
            for pool in topology.POOLS
            if any(pool in read for read in lanes)
            and not any(topology.lane(pool, isolated=True) in read for read in lanes)
        ]
        store = bool(model_store().snapshot().releases)
        checks = {
            "database": "ok" if database else "away",
            "model_store": "ok" if store else "no model can be served",
            # The portal has no connection to the broker; it knows of it by what comes through it.
            "broker": "ok" if workers else "degraded: nothing came through it lately",
            "workers": f"{workers} alive" if workers else "degraded: none was heard lately",
            # Jobs that may have killed a worker are tried alone there; without it they wait.
            "isolation": f"degraded: nobody reads {', '.join(missing)}" if missing else "ok",
        }
        if not database:
            raise Problem("unavailable", "The database is away, try again.", more=checks)
        if not store:
            raise Problem("not-ready", "The model store holds no model that can be served.", more=checks)
        return JsonResponse(checks)
