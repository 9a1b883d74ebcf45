"""Lists with cursor pages and filters by equality."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import Any, TypeVar

from django.core.exceptions import ValidationError
from django.db import DataError
from django.db.models import Model
from django.http import QueryDict
from rest_framework import generics, pagination
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from inference_portal.api.schemas import components
from inference_portal.errors import Problem
from workers.formats import Fault, Invalid

M = TypeVar("M", bound=Model)
PAGE_PARAMETERS = ("cursor", "page_size")


class Pages(pagination.CursorPagination):
    """What the size of a page and the OpenAPI page of a list have in common."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 500

    def get_page_size(self, request: Request) -> int | None:
        """Return how many entries a page has, at most `max_page_size`. Raises Invalid for what is no such number."""
        text = request.query_params.get(self.page_size_query_param, str(self.page_size))
        number = re.fullmatch("0*([1-9][0-9]*)", text)
        if not number:
            raise Invalid(Fault(f"/{self.page_size_query_param}", "expected a whole number above 0"))
        # Four digits tell whether it is too large, however many there are.
        return min(int(number[1][:4]), self.max_page_size)

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Return what the OpenAPI page says of a list with such entries."""
        return components.page(schema)


class ByNumber(Pages):
    """In the order of `number`, which no two entries share: Django REST framework's own cursors do."""

    ordering = "number"

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Return the page that the cursor names. Raises Invalid for the size, Problem (400) for the cursor."""
        self.get_page_size(request)
        try:
            return super().paginate_queryset(queryset, request, view) or []
        except (NotFound, ValueError, OverflowError, DataError) as error:
            # A cursor that we didn't make.
            raise Problem("malformed", f"The cursor can't be read: {error}") from error


class NewestFirst(Pages):
    """Newest first; pages stay right while entries come in, and where many have the same time.

    The view names the time in `newest_by`. A cursor is the entry at which a page ends, by its time and its id; Django
    REST framework's own ones know the time alone, and lose their way back among equal ones.
    """

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Return the page that the cursor names. Raises Invalid for the size, Problem (400) for cursor and filters."""
        self._by: str = view.newest_by
        self._url = request.build_absolute_uri()
        size = self.get_page_size(request) or self.page_size
        try:
            return self._page(queryset, request.query_params.get(self.cursor_query_param), size)
        except (ValueError, OverflowError, ValidationError, DataError) as error:
            # A cursor that we didn't make, a time that no database holds.
            raise Problem("malformed", f"A filter or the cursor can't be read: {error}") from error

    def get_next_link(self) -> str | None:
        """Return the address of what is older."""
        return self._link("after", self.page[-1]) if self.page and self.has_next else None

    def get_previous_link(self) -> str | None:
        """Return the address of what is newer."""
        return self._link("before", self.page[0]) if self.page and self.has_previous else None

    def _page(self, queryset: Any, cursor: str | None, size: int) -> list[Any]:
        order, back = (f"-{self._by}", "-id"), False
        if cursor:
            back, time, entry = _read_cursor(cursor)
            if back:
                order = (self._by, "id")
            side, there = ("gte", "lte") if back else ("lte", "gte")
            queryset = queryset.filter(**{f"{self._by}__{side}": time})
            queryset = queryset.exclude(**{self._by: time, f"id__{there}": entry})
        found = list(queryset.order_by(*order)[: size + 1])
        self.page = found[:size]
        more = len(found) > size
        if back:
            self.page.reverse()
        self.has_next, self.has_previous = (True, more) if back else (more, bool(cursor))
        return self.page

    def _link(self, direction: str, entry: Any) -> str:
        text = f"{direction} {getattr(entry, self._by).isoformat()} {entry.pk}"
        cursor = urlsafe_b64encode(text.encode()).decode()
        link: str = replace_query_param(self._url, self.cursor_query_param, cursor)
        return link


def _read_cursor(cursor: str) -> tuple[bool, datetime, str]:
    """Return whether it leads back, and the time and the id of an entry. Raises ValueError."""
    direction, time, entry = urlsafe_b64decode(cursor).decode().split(" ")
    moment = datetime.fromisoformat(time)
    if direction not in ("after", "before") or moment.tzinfo is None or "\0" in entry:
        raise ValueError("it isn't one of ours")
    return direction == "before", moment, entry


def check_parameters(given: QueryDict, filters: Iterable[str]) -> None:
    """Raise Problem for a parameter that doesn't exist, Invalid for one without a value: both would be passed over."""
    known = {*filters, *PAGE_PARAMETERS}
    if unknown := sorted(given.keys() - known):
        raise Problem("invalid-input", f"There is no filter '{unknown[0]}'; there are {', '.join(sorted(known))}.")
    if blank := sorted(name for name, value in given.items() if value == ""):
        raise Invalid(*(Fault(f"/{name}", "expected a value; leave it out for none") for name in blank))


class FilteredListView(generics.ListAPIView[M]):
    """GET a list. `filters` maps each parameter to the field that must equal it; no other parameter is passed over."""

    pagination_class: type[Pages] = NewestFirst
    newest_by: str
    filters: dict[str, str] = {}
    # What a parameter may be, where that is a handful of words.
    choices: dict[str, Collection[str]] = {}

    def get(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Return a page. Raises Problem for a parameter that doesn't exist or can't be read."""
        check_parameters(request.query_params, self.filters)
        unreadable = [name for name in self.filters if "\0" in request.query_params.get(name, "")]
        if unreadable:
            raise Invalid(*(Fault(f"/{name}", "expected text without NUL") for name in unreadable))
        for name, words in self.choices.items():
            if name in request.query_params and request.query_params[name] not in words:
                raise Invalid(Fault(f"/{name}", f"expected one of {', '.join(words)}"))
        return super().get(request, *args, **kwargs)

    def filter_queryset(self, queryset: Any) -> Any:
        """Apply the filters."""
        given = self.request.query_params
        return queryset.filter(**{field: given[name] for name, field in self.filters.items() if name in given})
