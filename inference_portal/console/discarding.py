"""Lists whose entries are discarded, each for a reason: the form, and the page between for many at once."""

from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import redirect
from django.urls import URLPattern, path, reverse
from unfold.widgets import UnfoldAdminTextareaWidget

from inference_portal.accounts.callers import Caller
from inference_portal.accounts.models import Role
from inference_portal.console.access import RoleAdmin, require
from inference_portal.console.page import page
from inference_portal.jobs import dead_letters
from workers.formats import Invalid

# More refusals are counted, not named.
NAMED_REFUSALS = 5


class DiscardForm(forms.Form):
    """Why it is let go; with `ids` where there are many."""

    ids = forms.CharField(widget=forms.HiddenInput, required=False)
    reason = forms.CharField(
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text="It is kept in the audit log.",
        error_messages={"required": "Please say why."},
    )

    def clean_reason(self) -> str:
        """Return the reason, checked as the API checks it."""
        try:
            return dead_letters.checked_reason(self.cleaned_data["reason"])
        except Invalid as invalid:
            raise forms.ValidationError(invalid.faults[0].detail.capitalize() + ".") from None


class DiscardAdmin(RoleAdmin):
    """For operators; read-only but for discarding."""

    readers = Role.OPERATOR
    actions: tuple[str, ...] = ("discard_selected",)

    def discard(self, caller: Caller, key: str, reason: str) -> object:
        """Discard the entry with this key. Raises one of dead_letters.REFUSALS."""
        raise NotImplementedError

    def show(self, request: HttpRequest, key: str, **forms_shown: forms.Form) -> HttpResponse:
        """Show the page of one entry."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        """Return the routes."""
        many = path("discard/", self.admin_site.admin_view(self.discard_many_view), name=self.route("discard_many"))
        one = path("<str:key>/discard/", self.admin_site.admin_view(self.discard_view), name=self.route("discard"))
        return [many, one, *super().get_urls()]

    def route(self, view: str) -> str:
        """Return the name of a route of this list."""
        return f"{self.opts.app_label}_{self.opts.model_name}_{view}"

    def to_list(self) -> HttpResponse:
        """Go back to the list."""
        return redirect(f"admin:{self.route('changelist')}")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the page of one entry."""
        return self.show(request, object_id)

    @admin.action(description="Discard…")
    def discard_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        """Ask for the reason."""
        keys = queryset.values_list("pk", flat=True)[: dead_letters.MAX_BULK]
        return self._ask(request, DiscardForm(initial={"ids": ",".join(map(str, keys))}))

    def discard_many_view(self, request: HttpRequest) -> HttpResponse:
        """Discard what the page between has named."""
        caller = require(request, Role.OPERATOR)
        if request.method != "POST":
            return self.to_list()
        form = DiscardForm(request.POST)
        if not form.is_valid():
            return self._ask(request, form)
        keys = form.cleaned_data["ids"].split(",")[: dead_letters.MAX_BULK]
        results = dead_letters.each(keys, lambda key: self.discard(caller, key, form.cleaned_data["reason"]))
        report(request, results, "Discarded")
        return self.to_list()

    def discard_view(self, request: HttpRequest, key: str) -> HttpResponse:
        """Discard one."""
        caller = require(request, Role.OPERATOR)
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        form = DiscardForm(request.POST)
        if not form.is_valid():
            return self.show(request, key, discard_form=form)
        results = dead_letters.each([key], lambda key: self.discard(caller, key, form.cleaned_data["reason"]))
        report(request, results, "Discarded")
        return self.to_list()

    def _ask(self, request: HttpRequest, form: DiscardForm) -> HttpResponse:
        return page(
            request,
            "console/discard.html",
            f"Discard {self.opts.verbose_name_plural}",
            form=form,
            count=len(str(form["ids"].value()).split(",")),
            url=reverse(f"admin:{self.route('discard_many')}"),
            back=reverse(f"admin:{self.route('changelist')}"),
        )


def report(request: HttpRequest, results: Iterable[tuple[Any, Any]], done: str) -> None:
    """Say for how many it worked, and why it didn't for the others."""
    outcomes = list(results)
    refusals = [(key, outcome) for key, outcome in outcomes if isinstance(outcome, Exception)]
    if len(outcomes) > len(refusals):
        messages.success(request, f"{done}: {len(outcomes) - len(refusals):,}.")
    for key, refusal in refusals[:NAMED_REFUSALS]:
        reason = refusal.faults[0].detail if isinstance(refusal, Invalid) else refusal
        messages.warning(request, f"Not {str(key)[:8]}: {reason}")
    if len(refusals) > NAMED_REFUSALS:
        messages.warning(request, f"Nor {len(refusals) - NAMED_REFUSALS:,} more.")
