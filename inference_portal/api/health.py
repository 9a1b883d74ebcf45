"""For load balancers and supervisors: is the process alive, can it work, what is missing."""

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, JsonResponse

from inference_portal.jobs.models import Worker
from inference_portal.store import model_store


def healthz(request: HttpRequest) -> HttpResponse:
    """Answer that the process is alive."""
    return JsonResponse({"status": "ok"})


def readyz(request: HttpRequest) -> HttpResponse:
    """Answer 200, or 503 without database or model store. Missing workers only degrade: requests wait for them."""
    try:
        workers = Worker.objects.alive().count()
        database = True
    except DatabaseError:
        workers, database = 0, False
    store = bool(model_store().snapshot().releases)
    checks = {
        "database": "ok" if database else "away",
        "model_store": "ok" if store else "no model can be served",
        "workers": f"{workers} alive" if workers else "degraded: none was heard lately",
    }
    return JsonResponse(checks, status=200 if database and store else 503)
