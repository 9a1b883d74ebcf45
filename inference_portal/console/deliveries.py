"""Deliveries: the list with its filters, a page for each, and the button that sends again."""

from typing import Any
from uuid import UUID

import orjson
from django.contrib import messages
from django.contrib.admin import ShowFacets
from django.contrib.admin.utils import unquote
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.safestring import SafeString
from django.utils.text import Truncator

from inference_portal.accounts.models import Role
from inference_portal.console.access import RoleAdmin, require
from inference_portal.console.column import column, one_line
from inference_portal.console.delivery_rows import COLOURS, answer_text, delivery_label
from inference_portal.console.job_filters import FieldFilter, StateFilter, TeamFilter
from inference_portal.console.page import page
from inference_portal.console.times import moment_text
from inference_portal.deliveries import events
from inference_portal.deliveries.again import redeliver
from inference_portal.deliveries.models import Delivery, Endpoint
from inference_portal.deliveries.states import State
from inference_portal.jobs.rerun import NotWaiting

# So much of an answer and of an address stands in a list; the pages have all.
MAX_ANSWER, MAX_ADDRESS = 80, 36


class DeliveryStateFilter(StateFilter):
    """By state."""

    states = State


class EventFilter(FieldFilter):
    """By what is told."""

    title = "event"
    parameter_name = "event_type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the types of events."""
        return [(each, each) for each in (*events.TYPES, events.TEST_TYPE)]


class WebhookFilter(FieldFilter):
    """By webhook."""

    title = "webhook"
    parameter_name = "webhook"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the caller's webhooks."""
        found = Endpoint.objects.visible_to(require(request, Role.VIEWER)).order_by("url", "created_at")
        return [(str(each.id), Truncator(each.url).chars(60)) for each in found]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Apply the choice; what is no id is nobody's."""
        try:
            return queryset.filter(endpoint_id=UUID(value)) if (value := self.value()) else queryset
        except ValueError:
            return queryset.none()


class DeliveryAdmin(RoleAdmin):
    """Read-only, but for sending again."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    ordering = ("-created_at",)
    sortable_by = ()
    actions = None
    list_filter_submit = True

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        """Return the filters; that by team is for those who see several."""
        team = [TeamFilter] if require(request, Role.VIEWER).sees_all_teams else []
        return [DeliveryStateFilter, EventFilter, WebhookFilter, *team]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Delivery]:
        """Return the deliveries that exist for the caller."""
        found = Delivery.objects.visible_to(require(request, Role.VIEWER))
        return found.select_related("team", "endpoint", "job").defer("job__input", "job__result")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns; the team is for those who see several."""
        team = ["team"] if require(request, Role.VIEWER).sees_all_teams else []
        return ["delivery", "state_label", "event_type", "to", "tries", "last", "next_try", *team, "created"]

    @column("Delivery")
    def delivery(self, delivery: Delivery) -> str:
        """Return the id's beginning, which is enough to tell deliveries apart."""
        return str(delivery.id)[:8]

    @column("State", label=COLOURS)
    def state_label(self, delivery: Delivery) -> tuple[str, str]:
        """Return the state as a coloured label."""
        return delivery.state, delivery.state

    @column("To")
    def to(self, delivery: Delivery) -> str:
        """Return the host."""
        return Truncator(delivery.host).chars(MAX_ADDRESS)

    @column("Last answer")
    def last(self, delivery: Delivery) -> str:
        """Return what the last try gave."""
        return Truncator(answer_text(delivery)).chars(MAX_ANSWER)

    @column("Next try (UTC)")
    def next_try(self, delivery: Delivery) -> SafeString:
        """Return when it is tried next."""
        return one_line(moment_text(delivery.due_at))

    @column("Since (UTC)")
    def created(self, delivery: Delivery) -> SafeString:
        """Return when what it tells of happened."""
        return one_line(moment_text(delivery.created_at))

    def get_urls(self) -> list[URLPattern]:
        """Return the routes."""
        view = self.admin_site.admin_view
        again = path("<uuid:delivery_id>/redeliver/", view(self.redeliver_view), name="deliveries_delivery_redeliver")
        return [again, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show a delivery; one of another team is as unknown as one that never was."""
        caller = require(request, Role.VIEWER)
        delivery = self.get_object(request, unquote(object_id))
        if delivery is None:
            return self._unknown(request, object_id)
        return page(
            request,
            "console/delivery.html",
            f"Delivery {str(delivery.id)[:8]}",
            delivery=delivery,
            label=delivery_label(delivery),
            event=orjson.dumps(delivery.event, option=orjson.OPT_INDENT_2).decode(),
            attempts=[(each, moment_text(each.at)) for each in delivery.attempts.all()],
            due=moment_text(delivery.due_at),
            created=moment_text(delivery.created_at),
            finished=moment_text(delivery.finished_at),
            may_send=caller.role.allows(Role.SUBMITTER) and not delivery.is_open,
        )

    def redeliver_view(self, request: HttpRequest, delivery_id: UUID) -> HttpResponse:
        """Send it again."""
        require(request, Role.SUBMITTER)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        # With its job's result: without one there is nothing to send.
        delivery = self.get_queryset(request).defer(None).filter(id=delivery_id).first()
        if delivery is None:
            return self._unknown(request, str(delivery_id))
        try:
            redeliver(delivery=delivery)
        except NotWaiting as refusal:
            messages.warning(request, str(refusal))
        else:
            messages.success(request, "It is sent again.")
        return redirect("admin:deliveries_delivery_change", delivery_id)

    def _unknown(self, request: HttpRequest, object_id: str) -> HttpResponse:
        messages.warning(request, f"There is no delivery {object_id}.")
        return redirect("admin:deliveries_delivery_changelist")
