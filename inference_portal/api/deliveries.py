"""/api/deliveries/: what is on its way to whom, and sending it again."""

from typing import Any
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api.auth import caller_of, require_role
from inference_portal.api.body import read_object
from inference_portal.api.delivery_fields import DeliveryDetailSerializer, DeliverySerializer
from inference_portal.api.lists import FilteredListView
from inference_portal.api.schemas import deliveries as schemas
from inference_portal.deliveries.again import redeliver
from inference_portal.deliveries.models import Delivery, DeliveryQuerySet
from inference_portal.deliveries.states import State
from inference_portal.errors import Problem
from workers.formats import Fault, Invalid, escape, shown
from workers.schema import MAX_FAULTS


class DeliveryListView(FilteredListView[Delivery]):
    """GET lists the team's deliveries."""

    queryset = Delivery.objects.none()
    serializer_class = DeliverySerializer
    newest_by = "created_at"
    filters = {"state": "state", "event_type": "event_type", "event_id": "event_id"}
    choices = {"state": tuple(state.value for state in State)}

    @extend_schema(**schemas.DELIVERY_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the team's deliveries, newest first."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> DeliveryQuerySet:
        """Return the deliveries that exist for the caller."""
        return Delivery.objects.visible_to(caller_of(self.request)).select_related("team")


class OfOneDelivery(APIView):
    """A view of the delivery that its path names. Whether it exists for the caller comes before what the role may."""

    required_role = Role.VIEWER

    def delivery(self, request: Request, delivery_id: UUID, *, to_change: bool = False) -> Delivery:
        """Return it. Raises Problem; PermissionDenied where it shall be changed by one who may only read."""
        caller = caller_of(request)
        found = Delivery.objects.visible_to(caller).select_related("team", "endpoint", "job").defer("job__input")
        delivery = found.filter(id=delivery_id).first()
        if delivery is None:
            raise Problem("not-found", f"There is no delivery '{delivery_id}'.")
        if to_change:
            require_role(caller, Role.SUBMITTER)
        return delivery


class DeliveryView(OfOneDelivery):
    """GET one delivery with its tries."""

    @extend_schema(**schemas.DELIVERY_DETAIL)
    def get(self, request: Request, delivery_id: UUID) -> Response:
        """Return the delivery with its tries."""
        return Response(DeliveryDetailSerializer(self.delivery(request, delivery_id)).data)


class RedeliverView(OfOneDelivery):
    """POST sends it again."""

    @extend_schema(**schemas.REDELIVER)
    def post(self, request: Request, delivery_id: UUID) -> Response:
        """Send the same event again; there is no new inference."""
        delivery = self.delivery(request, delivery_id, to_change=True)
        refuse_fields(request)
        return Response(DeliverySerializer(redeliver(delivery=delivery)).data, status=202)


def refuse_fields(request: Request) -> None:
    """Raise Invalid for a body with fields, where there are none."""
    if unknown := sorted(read_object(request)):
        raise Invalid(*(Fault(f"/{escape(shown(name))}", "there is no such field") for name in unknown[:MAX_FAULTS]))
