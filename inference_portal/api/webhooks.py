"""/api/webhooks/: where a team wants to hear of what happens."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api.auth import caller_of, require_role
from inference_portal.api.body import read_json_body
from inference_portal.api.deliveries import refuse_fields
from inference_portal.api.delivery_fields import DeliverySerializer
from inference_portal.api.lists import FilteredListView
from inference_portal.api.schemas import deliveries as schemas
from inference_portal.deliveries import endpoints, letters
from inference_portal.deliveries.models import Endpoint, EndpointQuerySet
from inference_portal.errors import Problem
from workers.formats import json_body


class WebhookSerializer(serializers.ModelSerializer[Endpoint]):
    """An endpoint, without its key."""

    team = serializers.CharField(source="team.name", read_only=True)

    class Meta:
        model = Endpoint
        fields = (
            "id", "team", "submitted_by", "url", "events", "enabled", "disabled_reason", "succeeded_at",
            "old_secret_until", "created_at",
        )  # fmt: skip


class WebhookListView(FilteredListView[Endpoint]):
    """GET lists the team's endpoints, POST registers one."""

    queryset = Endpoint.objects.none()
    serializer_class = WebhookSerializer
    newest_by = "created_at"

    @extend_schema(**schemas.WEBHOOK_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the team's endpoints, newest first."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> EndpointQuerySet:
        """Return the endpoints that exist for the caller."""
        return Endpoint.objects.visible_to(caller_of(self.request)).select_related("team")

    @extend_schema(**schemas.WEBHOOK_CREATE)
    def post(self, request: Request) -> Response:
        """Register an endpoint; the answer has its key, which is never shown again."""
        data = json_body.read_object(read_json_body(request))
        endpoint = endpoints.endpoint_new(data=data, caller=caller_of(request))
        return Response(_with_secret(endpoint), status=201, headers={"Location": f"/api/webhooks/{endpoint.id}/"})


class OfOneWebhook(APIView):
    """A view of the endpoint that its path names. Whether it exists for the caller comes before what the role may."""

    required_role = Role.VIEWER

    def endpoint(self, request: Request, webhook_id: UUID, *, to_change: bool = False) -> Endpoint:
        """Return it. Raises Problem; PermissionDenied where it shall be changed by one who may only read."""
        caller = caller_of(request)
        endpoint = Endpoint.objects.visible_to(caller).select_related("team").filter(id=webhook_id).first()
        if endpoint is None:
            raise Problem("not-found", f"There is no webhook '{webhook_id}'.")
        if to_change:
            require_role(caller, Role.SUBMITTER)
        return endpoint


class WebhookView(OfOneWebhook):
    """GET one endpoint, PATCH changes it, DELETE removes it."""

    @extend_schema(**schemas.WEBHOOK_DETAIL)
    def get(self, request: Request, webhook_id: UUID) -> Response:
        """Return the endpoint, without its key."""
        return Response(WebhookSerializer(self.endpoint(request, webhook_id)).data)

    @extend_schema(**schemas.WEBHOOK_PATCH)
    def patch(self, request: Request, webhook_id: UUID) -> Response:
        """Change what the body names."""
        endpoint = self.endpoint(request, webhook_id, to_change=True)
        data = json_body.read_object(read_json_body(request))
        return Response(WebhookSerializer(endpoints.endpoint_change(endpoint=endpoint, data=data)).data)

    @extend_schema(**schemas.WEBHOOK_DELETE)
    def delete(self, request: Request, webhook_id: UUID) -> Response:
        """Remove it; the record of its deliveries stays."""
        endpoints.endpoint_delete(endpoint=self.endpoint(request, webhook_id, to_change=True))
        return Response(status=204)


class WebhookTestView(OfOneWebhook):
    """POST sends a test."""

    @extend_schema(**schemas.WEBHOOK_TEST)
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Send an event that means nothing; the answer is its delivery."""
        endpoint = self.endpoint(request, webhook_id, to_change=True)
        refuse_fields(request)
        return Response(DeliverySerializer(endpoints.endpoint_test(endpoint=endpoint)).data, status=202)


class WebhookRotateView(OfOneWebhook):
    """POST gives an endpoint a new key."""

    @extend_schema(**schemas.WEBHOOK_ROTATE)
    def post(self, request: Request, webhook_id: UUID) -> Response:
        """Return the new key; for a day the one before signs, too."""
        endpoint = self.endpoint(request, webhook_id, to_change=True)
        refuse_fields(request)
        return Response(_with_secret(endpoints.endpoint_rotate(endpoint=endpoint)))


class WebhookSecretView(APIView):
    """GET the team's key."""

    required_role = Role.SUBMITTER

    @extend_schema(**schemas.WEBHOOK_SECRET)
    def get(self, request: Request) -> Response:
        """Return what signs the calls to addresses that single requests name."""
        return Response({"secret": letters.team_secret(caller_of(request).team_id)})


def _with_secret(endpoint: Endpoint) -> dict[str, Any]:
    return WebhookSerializer(endpoint).data | {"secret": endpoint.secret}
