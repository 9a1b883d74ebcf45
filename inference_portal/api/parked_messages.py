"""/api/dead-letters/messages/: what nobody could read, until an operator has looked at it."""

from typing import Any

from django.db.models import QuerySet
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from inference_portal.accounts.models import Role
from inference_portal.api.auth import caller_of
from inference_portal.api.body import read_object
from inference_portal.api.dead_letters import OperatorView, reason_of
from inference_portal.api.lists import FilteredListView
from inference_portal.api.schemas import dead_letters as schemas
from inference_portal.jobs import dead_letters
from inference_portal.jobs.models import ParkedMessage


class ParkedMessageSerializer(serializers.ModelSerializer[ParkedMessage]):
    """A message with the beginning of its body as text."""

    body = serializers.SerializerMethodField()

    class Meta:
        model = ParkedMessage
        fields = ("id", "received_at", "queue", "reason", "error", "headers", "body", "size", "discarded_at")

    def get_body(self, message: Any) -> str:
        """Return the first characters of the body."""
        return dead_letters.excerpt(message.start)


class MessageListView(FilteredListView[ParkedMessage]):
    """GET lists what waits."""

    required_role = Role.OPERATOR
    queryset = ParkedMessage.objects.none()
    serializer_class = ParkedMessageSerializer
    newest_by = "received_at"
    filters = {"queue": "queue", "reason": "reason"}

    @extend_schema(**schemas.MESSAGE_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the messages that nobody could read, and that nobody has discarded."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[ParkedMessage]:
        """Return what waits."""
        return dead_letters.parked_messages().filter(discarded_at=None)


class MessageDiscardView(OperatorView):
    """POST lets one go."""

    @extend_schema(**schemas.MESSAGE_DISCARD)
    def post(self, request: Request, message_id: int) -> Response:
        """Take it off the list."""
        data = read_object(request, "reason")
        message = dead_letters.discard_message(message_id=message_id, caller=caller_of(request), reason=reason_of(data))
        return Response(ParkedMessageSerializer(message).data)
