"""/api/batches/: ask for one, list, look at, change."""

from typing import Any
from uuid import UUID

import django_filters
from django.db.models import QuerySet
from django_filters.rest_framework import DjangoFilterBackend
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from inference_portal.accounts.models import Role
from inference_portal.api import job_options, request_id
from inference_portal.api.auth import caller_of, require_role
from inference_portal.api.batch_fields import BatchSerializer, ChunkSerializer, batch_document
from inference_portal.api.body import read_json_body, read_object
from inference_portal.api.lists import ByNumber, FilteredListView, NewestFirst, check_parameters
from inference_portal.api.schemas import batches as schemas
from inference_portal.batches import fields, services
from inference_portal.batches.models import Batch, BatchQuerySet, Chunk
from inference_portal.batches.models.chunk import DONE, FAILED, OPEN
from inference_portal.batches.states import State
from inference_portal.errors import Problem
from workers.formats import json_body


class BatchFilter(django_filters.FilterSet):
    """The list's filters."""

    state = django_filters.ChoiceFilter(choices=[(s.value, s.value) for s in State])

    class Meta:
        model = Batch
        fields = ("state", "model")


class OfOneBatch(APIView):
    """A view of the batch that its path names.

    Those that change it let viewers in: whether it exists for the caller comes before what the role may.
    """

    def batch(self, request: Request, batch_id: UUID, *, to_change: bool = False) -> Batch:
        """Return it. Raises Problem; PermissionDenied where it shall be changed by one who may only read."""
        batch = Batch.objects.visible_to(caller_of(request)).select_related("team").filter(id=batch_id).first()
        if batch is None:
            raise Problem("not-found", f"There is no batch '{batch_id}'.")
        if to_change:
            require_role(caller_of(request), Role.SUBMITTER)
        return batch


class BatchListView(generics.ListAPIView[Batch]):
    """GET lists the team's batches, POST asks for one."""

    queryset = Batch.objects.none()
    serializer_class = BatchSerializer
    pagination_class = NewestFirst
    newest_by = "created_at"
    filter_backends = [DjangoFilterBackend]
    filterset_class = BatchFilter

    @extend_schema(**schemas.BATCH_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List the team's batches, newest first."""
        check_parameters(request.query_params, BatchFilter.base_filters)
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> BatchQuerySet:
        """Return the batches that exist for the caller."""
        return Batch.objects.visible_to(caller_of(self.request)).select_related("team").defer("plan", "receipt")

    @extend_schema(**schemas.BATCH_CREATE)
    def post(self, request: Request) -> Response:
        """Accept one; the rest is up to the workers of its pool."""
        job_options.refuse_headers(request.headers)
        request_id.refuse_names(request.headers)
        caller = caller_of(request)
        batch = fields.submit(json_body.read_object(read_json_body(request)), caller)
        return Response(batch_document(batch), status=202, headers={"Location": f"/api/batches/{batch.id}/"})


class BatchView(OfOneBatch):
    """GET one batch, PATCH changes how it goes on."""

    required_role = Role.VIEWER

    @extend_schema(**schemas.BATCH_DETAIL)
    def get(self, request: Request, batch_id: UUID) -> Response:
        """Return the batch."""
        return Response(batch_document(self.batch(request, batch_id)))

    @extend_schema(**schemas.BATCH_CHANGE)
    def patch(self, request: Request, batch_id: UUID) -> Response:
        """Change its retry policy or its deadline."""
        batch = self.batch(request, batch_id, to_change=True)
        fields.change(batch.id, read_object(request), caller_of(request))
        return Response(batch_document(self.batch(request, batch_id)))


class ChunkListView(OfOneBatch, FilteredListView[Chunk]):
    """GET lists a batch's chunks."""

    queryset = Chunk.objects.none()
    serializer_class = ChunkSerializer
    pagination_class = ByNumber
    filters = {"state": "state"}
    choices = {"state": (OPEN, DONE, FAILED)}

    @extend_schema(**schemas.CHUNK_LIST)
    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """List them in the order of their rows."""
        return super().get(request, *args, **kwargs)

    def get_queryset(self) -> QuerySet[Chunk]:
        """Return them, without what only workers read."""
        return self.batch(self.request, self.kwargs["batch_id"]).chunks.defer("source")


class BatchCancelView(OfOneBatch):
    """POST cancels a batch that is still open."""

    required_role = Role.VIEWER

    @extend_schema(**schemas.BATCH_CANCEL)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Cancel; what workers still compute for it is thrown away."""
        batch = self.batch(request, batch_id, to_change=True)
        done = services.batch_cancel(batch_id=batch.id, caller=caller_of(request))
        batch = self.batch(request, batch_id)
        if not done:
            raise Problem("conflict", f"The batch is {batch.state}, it can't be cancelled any more.")
        return Response(batch_document(batch), status=202)


class BatchRerunView(OfOneBatch):
    """POST runs a batch again that has ended."""

    required_role = Role.VIEWER

    @extend_schema(**schemas.BATCH_RERUN)
    def post(self, request: Request, batch_id: UUID) -> Response:
        """Run it again: all of it, or what failed."""
        batch = self.batch(request, batch_id, to_change=True)
        fields.rerun(batch.id, read_object(request), caller_of(request))
        return Response(batch_document(self.batch(request, batch_id)), status=202)
