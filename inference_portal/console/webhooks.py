"""Webhooks: the list, a page for each, its form, and the buttons."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

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
from inference_portal.console.column import column, lines, one_line
from inference_portal.console.delivery_rows import delivery_rows
from inference_portal.console.page import page
from inference_portal.console.times import moment_text
from inference_portal.console.webhook_form import WebhookForm, values_of
from inference_portal.deliveries import endpoints
from inference_portal.deliveries.models import Endpoint
from workers.formats import Invalid

# Deliveries on a webhook's page.
SHOWN = 20
# So much of a reason, of an address and of the events stands in the list; the pages have all.
MAX_REASON, MAX_ADDRESS, MAX_EVENTS = 80, 36, 3
# In the session: whose new key its page shows next, once. The key itself is not in there.
_SHOW_KEY = "show_key_of_webhook"


class EndpointAdmin(RoleAdmin):
    """Read by viewers; submitters register, change, test, rotate, turn and remove their team's."""

    list_per_page = 50
    show_full_result_count = False
    show_facets = ShowFacets.NEVER
    ordering = ("-created_at",)
    sortable_by = ()
    actions = None
    writers = Role.SUBMITTER

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Refuse: a webhook's own page has a button."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Endpoint]:
        """Return the endpoints that exist for the caller."""
        return Endpoint.objects.visible_to(require(request, Role.VIEWER)).select_related("team")

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        """Return the columns; the team is for those who see several."""
        team = ["team"] if require(request, Role.VIEWER).sees_all_teams else []
        return ["address", "on", "wanted", "why_off", "succeeded", *team, "submitted_by"]

    @column("Address")
    def address(self, endpoint: Endpoint) -> str:
        """Return it; the beginning of a long one."""
        return Truncator(endpoint.url).chars(MAX_ADDRESS)

    @column("Turned off, since")
    def why_off(self, endpoint: Endpoint) -> str:
        """Return why the courier turned it off."""
        return Truncator(endpoint.disabled_reason or "–").chars(MAX_REASON)

    @column("State", label={"on": "success", "off": ""})
    def on(self, endpoint: Endpoint) -> str:
        """Tell whether it is turned on."""
        return "on" if endpoint.enabled else "off"

    @column("Events")
    def wanted(self, endpoint: Endpoint) -> SafeString:
        """Return what it hears of."""
        named, more = endpoint.events[:MAX_EVENTS], len(endpoint.events) - MAX_EVENTS
        return lines([*named, f"and {more} more"] if more > 0 else named or ["all"])

    @column("Last success (UTC)")
    def succeeded(self, endpoint: Endpoint) -> SafeString:
        """Return when the last call went well."""
        return one_line(moment_text(endpoint.succeeded_at))

    def get_urls(self) -> list[URLPattern]:
        """Return the routes."""
        view = self.admin_site.admin_view
        return [
            path("<uuid:webhook_id>/test/", view(self.test_view), name="deliveries_endpoint_test"),
            path("<uuid:webhook_id>/rotate/", view(self.rotate_view), name="deliveries_endpoint_rotate"),
            path("<uuid:webhook_id>/turn/", view(self.turn_view), name="deliveries_endpoint_turn"),
            path("<uuid:webhook_id>/edit/", view(self.edit_view), name="deliveries_endpoint_edit"),
            path("<uuid:webhook_id>/remove/", view(self.remove_view), name="deliveries_endpoint_remove"),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show an endpoint; one of another team is as unknown as one that never was."""
        caller = require(request, Role.VIEWER)
        endpoint = self.get_object(request, unquote(object_id))
        if endpoint is None:
            return self._unknown(request, object_id)
        shows_key = request.session.pop(_SHOW_KEY, None) == str(endpoint.id)
        return page(
            request,
            "console/webhook.html",
            "Webhook",
            endpoint=endpoint,
            secret=endpoint.secret if shows_key else None,
            wanted=endpoint.events or ["all"],
            created=moment_text(endpoint.created_at),
            succeeded=moment_text(endpoint.succeeded_at),
            old_until=moment_text(endpoint.old_secret_until) if len(endpoint.keys) > 1 else None,
            deliveries=delivery_rows(endpoint.deliveries.order_by("-created_at")[:SHOWN]),
            may_change=caller.role.allows(Role.SUBMITTER),
        )

    def add_view(
        self, request: HttpRequest, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the form of a new one, or register it; its page then shows its key."""
        caller = require(request, Role.SUBMITTER)
        form = WebhookForm(request.POST) if request.method == "POST" else WebhookForm()
        endpoint = _stored(form, lambda: endpoints.endpoint_new(data=form.asked(), caller=caller))
        if endpoint is None:
            return page(request, "console/webhook_form.html", "New webhook", form=form)
        request.session[_SHOW_KEY] = str(endpoint.id)
        messages.success(request, "The webhook was registered.")
        return redirect("admin:deliveries_endpoint_change", endpoint.id)

    def edit_view(self, request: HttpRequest, webhook_id: UUID) -> HttpResponse:
        """Show the form of one that there is, or change it."""
        require(request, Role.SUBMITTER)
        endpoint = self.get_queryset(request).filter(id=webhook_id).first()
        if endpoint is None:
            return self._unknown(request, str(webhook_id))
        shown = values_of(endpoint)
        form = WebhookForm(request.POST, initial=shown) if request.method == "POST" else WebhookForm(initial=shown)

        def change() -> Endpoint:
            # Without a change there is nothing to ask for; and one that the portal has turned off keeps its reason.
            data = form.changed()
            return endpoints.endpoint_change(endpoint=endpoint, data=data) if data else endpoint

        if _stored(form, change) is None:
            return page(request, "console/webhook_form.html", "Change webhook", form=form, endpoint=endpoint)
        messages.success(request, "The webhook was changed.")
        return redirect("admin:deliveries_endpoint_change", webhook_id)

    def test_view(self, request: HttpRequest, webhook_id: UUID) -> HttpResponse:
        """Send a test, and show its delivery."""
        return self._act(
            request,
            webhook_id,
            lambda found: redirect("admin:deliveries_delivery_change", endpoints.endpoint_test(endpoint=found).id),
        )

    def rotate_view(self, request: HttpRequest, webhook_id: UUID) -> HttpResponse:
        """Give it a new key; its page then shows it."""

        def rotate(found: Endpoint) -> HttpResponse:
            endpoints.endpoint_rotate(endpoint=found)
            request.session[_SHOW_KEY] = str(found.id)
            return redirect("admin:deliveries_endpoint_change", found.id)

        return self._act(request, webhook_id, rotate)

    def turn_view(self, request: HttpRequest, webhook_id: UUID) -> HttpResponse:
        """Turn it on or off."""
        on = request.POST.get("enabled") == "1"

        def turn(found: Endpoint) -> HttpResponse:
            endpoints.endpoint_change(endpoint=found, data={"enabled": on})
            messages.success(request, f"The webhook is {'on' if on else 'off'}.")
            return redirect("admin:deliveries_endpoint_change", found.id)

        return self._act(request, webhook_id, turn)

    def remove_view(self, request: HttpRequest, webhook_id: UUID) -> HttpResponse:
        """Remove it."""

        def remove(found: Endpoint) -> HttpResponse:
            endpoints.endpoint_delete(endpoint=found)
            messages.success(request, "The webhook was removed; the record of its deliveries stays.")
            return redirect("admin:deliveries_endpoint_changelist")

        return self._act(request, webhook_id, remove)

    def _act(self, request: HttpRequest, webhook_id: UUID, act: Any) -> HttpResponse:
        require(request, Role.SUBMITTER)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        endpoint = self.get_queryset(request).filter(id=webhook_id).first()
        if endpoint is None:
            return self._unknown(request, str(webhook_id))
        answer: HttpResponse = act(endpoint)
        return answer

    def _unknown(self, request: HttpRequest, object_id: str) -> HttpResponse:
        messages.warning(request, f"There is no webhook {object_id}.")
        return redirect("admin:deliveries_endpoint_changelist")


def _stored(form: WebhookForm, store: Callable[[], Endpoint]) -> Endpoint | None:
    """Store what the form asks for; None, with what is wrong at its field, when that can't be."""
    if not form.is_valid():
        return None
    try:
        return store()
    except Invalid as invalid:
        form.add_refusal(invalid)
        return None
