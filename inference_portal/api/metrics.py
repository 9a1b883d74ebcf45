"""GET /metrics, for Prometheus with an operator's key. Without a key: see `metrics_address`."""

from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from rest_framework.request import Request
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api.exposition import REGISTRY
from inference_portal.api.negotiation import ByTheView
from inference_portal.api.schemas import operators as schemas


class MetricsView(APIView):
    """GET the page. Always in the text format, which every Prometheus reads, whatever it would like better."""

    content_negotiation_class = ByTheView
    required_role = Role.OPERATOR

    @extend_schema(**schemas.METRICS)
    def get(self, request: Request) -> HttpResponse:
        """Return all metrics."""
        return HttpResponse(generate_latest(REGISTRY), content_type=CONTENT_TYPE_PLAIN_0_0_4)
