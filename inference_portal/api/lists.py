"""Lists with cursor pages and filters by equality."""

from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import Model, QuerySet
from rest_framework import generics, pagination
from rest_framework.request import Request
from rest_framework.response import Response

from inference_portal.errors import Problem
from workers.formats import Fault, Invalid

M = TypeVar("M", bound=Model)
PAGE_PARAMETERS = ("cursor", "page_size")


class NewestFirst(pagination.CursorPagination):
    """Newest first; a cursor stays right while entries come in. The view names the time in `newest_by`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500

    def get_ordering(self, request: Request, queryset: QuerySet[M], view: Any) -> tuple[str, ...]:
        """Return the order: by the view's time, and by id where two are equal."""
        return (f"-{view.newest_by}", "-id")


class FilteredListView(generics.ListAPIView[M]):
    """GET a list. `filters` maps each parameter to the field that must equal it; no other parameter is passed over."""

    pagination_class = NewestFirst
    newest_by: str
    filters: dict[str, str] = {}

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return a page. Raises Problem for a parameter that doesn't exist or can't be read."""
        known = {*self.filters, *PAGE_PARAMETERS}
        if unknown := sorted(request.query_params.keys() - known):
            raise Problem("invalid-input", f"There is no filter '{unknown[0]}'; there are {', '.join(sorted(known))}.")
        unreadable = [name for name in self.filters if "\0" in request.query_params.get(name, "")]
        if unreadable:
            raise Invalid(*(Fault(f"/{name}", "expected text without NUL") for name in unreadable))
        try:
            return super().get(request, *args, **kwargs)
        except (ValueError, OverflowError, ValidationError, DataError) as error:
            # A cursor that we didn't make.
            raise Problem("malformed", f"The cursor can't be read: {error}") from error

    def filter_queryset(self, queryset: Any) -> Any:
        """Apply the filters."""
        given = self.request.query_params
        return queryset.filter(**{field: given[name] for name, field in self.filters.items() if name in given})
