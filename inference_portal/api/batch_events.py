"""GET /api/batches/{id}/events/: server-sent events, the batch now and then each change, until the end."""

from uuid import UUID

from django.http import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from inference_portal.api.batch_fields import batch_document
from inference_portal.api.batches import OfOneBatch
from inference_portal.api.event_stream import Event, follow
from inference_portal.api.negotiation import ByTheView
from inference_portal.api.schemas import batches as schemas
from inference_portal.batches.models import Batch
from inference_portal.batches.streams import batch_streams, mark_of


class BatchEventsView(OfOneBatch):
    """GET a stream of a batch's progress."""

    content_negotiation_class = ByTheView

    @extend_schema(**schemas.BATCH_EVENTS)
    def get(self, request: Request, batch_id: UUID) -> HttpResponseBase:
        """Stream it."""
        return follow(request, batch_streams, self.batch(request, batch_id), _event, batch_document)


def _event(batch: Batch) -> Event:
    return Event(mark_of(batch).as_text(), batch.is_final)
